//! The story of a takeover, told while it happens.

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
    tell(&lab)
}

pub fn tell(lab: &Lab) -> Result {
    let mut pair = lab.pair(Settings::new(100, 300).members(&["nginx.service"]))?;
    println!("They keep one web site between them: the address {VIP} and an nginx, heartbeats every 100 ms,");
    println!("and a peer that was silent for 300 ms is given up. A client asks {VIP} every millisecond.\n");
    let owner = pair.settled()?;
    println!("Who owns it?\n{}", show_status(&pair, &owner)?);
    power_cut(&mut pair, &owner)?;
    let heir = pair.other(&owner).name();
    println!("{owner} gets its power back ...");
    pair.return_of(&owner)?;
    println!("... and finds that the site is well where it is: a move back would be one more interruption.\n");
    planned_move(&pair, heir, &owner)?;
    println!("\nThe end. The hosts are switched off, and nothing of them stays.");
    Ok(())
}

fn show_status(pair: &Pair, host: &str) -> Result<String> {
    let (_, text) = pair.host(host).attempt(&["hafailoverctl", "status"])?;
    let quoted = text.lines().map(|line| format!("    {line}\n"));
    Ok(format!("    {host}# hafailoverctl status\n{}", quoted.collect::<String>()))
}

fn power_cut(pair: &mut Pair, owner: &str) -> Result {
    let client = pair.served_client()?;
    std::thread::sleep(Duration::from_millis(300));
    println!("Now {owner} loses its power: no goodbye, not even to the switch.");
    let cut = pair.host_mut(owner).lose_power()?;
    client.wait_for_answer(cut, SETTLE)?;
    let trace = client.finish();
    let heir = pair.other(owner).name();
    println!("The client was without service for {:.0} ms and lost {} datagrams.", ms(trace.outage()), trace.lost());
    pair.settled()?;
    println!("Why is it on {heir} now?\n    {heir}# hafailoverctl why web");
    let (_, why) = pair.host(heir).attempt(&["hafailoverctl", "why", "web"])?;
    why.lines().for_each(|line| println!("    {line}"));
    println!();
    Ok(())
}

fn planned_move(pair: &Pair, from: &str, to: &str) -> Result {
    let client = pair.served_client()?;
    std::thread::sleep(Duration::from_millis(200));
    println!(
        "Maintenance on {from}: the administrator moves the site to {to}.\n    {from}# hafailoverctl move web {to}"
    );
    let asked = Instant::now();
    pair.host(from).run(&["hafailoverctl", "move", "web", to])?;
    wait_for("the move", SETTLE, || (pair.watch.holders(VIP) == [to]).then_some(()))?;
    client.wait_for_answer(asked, SETTLE)?;
    std::thread::sleep(Duration::from_millis(200));
    let trace = client.finish();
    println!("The client lost {} datagrams, {:.0} ms of service.\n", trace.lost(), ms(trace.outage()));
    pair.settled()?;
    print!("{}", show_status(pair, to)?);
    Ok(())
}
