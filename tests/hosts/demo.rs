//! The story of a takeover, told while it happens.

use crate::ensure;
use crate::figures::ms;
use crate::pair::{Lab, Pair, SETTLE, VIP};
use crate::root::Root;
use crate::settings::Settings;
use crate::sys::{Result, wait_for};
use std::time::{Duration, Instant};

pub fn demo() -> Result {
    println!("Booting two Debian hosts, alpha and beta, on this machine ...");
    let lab = Lab::open(Root::prepare(true)?, false)?;
    lab.report_to("demo");
    tell(&lab).map(drop)
}

/// The story so far. What is said is printed at once, for whoever watches.
#[derive(Debug, Default)]
struct Story(String);

impl Story {
    fn say(&mut self, words: &str) {
        println!("{words}");
        self.0.push_str(words);
        self.0.push('\n');
    }
}

/// Returns all that was told, and who owned the site at first.
pub fn tell(lab: &Lab) -> Result<(String, String)> {
    let mut story = Story::default();
    let mut pair = lab.pair(Settings::new(100, 300).members(&["nginx.service"]))?;
    story.say(&format!(
        "They keep one web site between them: the address {VIP} and an nginx, heartbeats every 100 ms,\n\
         and a peer that was silent for 300 ms is given up. A client asks {VIP} every millisecond.\n"
    ));
    let owner = pair.settled()?;
    story.say(&format!("Who owns it?\n{}", show_status(&pair, &owner)?));
    power_cut(&mut story, &mut pair, &owner)?;
    let heir = pair.other(&owner).name();
    story.say(&format!("{owner} gets its power back ..."));
    let kept = pair.return_of(&owner)?;
    ensure!(kept == heir, "the site went to {kept} when {owner} returned");
    story.say(&format!(
        "... and finds that the site is well on {kept}: a move back would be one more interruption.\n\n{}",
        show_status(&pair, &owner)?
    ));
    planned_move(&mut story, &pair, heir, &owner)?;
    story.say("\nThe end. The hosts are switched off, and nothing of them stays.");
    Ok((story.0, owner))
}

fn show_status(pair: &Pair, host: &str) -> Result<String> {
    let (_, text) = pair.host(host).attempt(&["hafailoverctl", "status"])?;
    let quoted = text.lines().map(|line| format!("    {line}\n"));
    Ok(format!("    {host}# hafailoverctl status\n{}", quoted.collect::<String>()))
}

fn power_cut(story: &mut Story, pair: &mut Pair, owner: &str) -> Result {
    let client = pair.served_client()?;
    std::thread::sleep(Duration::from_millis(300));
    story.say(&format!("Now {owner} loses its power: no goodbye, not even to the switch."));
    let cut = pair.host_mut(owner).lose_power()?;
    client.wait_for_answer(cut, SETTLE)?;
    let trace = client.finish();
    let heir = pair.other(owner).name();
    let (outage, lost) = (ms(trace.outage()), trace.lost());
    story.say(&format!("The client was without service for {outage:.0} ms and lost {lost} datagrams."));
    pair.settled()?;
    let (_, why) = pair.host(heir).attempt(&["hafailoverctl", "why", "web"])?;
    let why: String = why.lines().map(|line| format!("    {line}\n")).collect();
    story.say(&format!("Why is it on {heir} now?\n    {heir}# hafailoverctl why web\n{why}"));
    Ok(())
}

fn planned_move(story: &mut Story, pair: &Pair, from: &str, to: &str) -> Result {
    let client = pair.served_client()?;
    std::thread::sleep(Duration::from_millis(200));
    story.say(&format!(
        "Maintenance on {from}: the administrator moves the site to {to}.\n    {from}# hafailoverctl move web {to}"
    ));
    let asked = Instant::now();
    pair.host(from).run(&["hafailoverctl", "move", "web", to])?;
    wait_for("the move", SETTLE, || (pair.watch.holders(VIP) == [to]).then_some(()))?;
    client.wait_for_answer(asked, SETTLE)?;
    std::thread::sleep(Duration::from_millis(200));
    let trace = client.finish();
    story.say(&format!("The client lost {} datagrams, {:.0} ms of service.\n", trace.lost(), ms(trace.outage())));
    pair.settled()?;
    story.say(&show_status(pair, to)?);
    Ok(())
}
