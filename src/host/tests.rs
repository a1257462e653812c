//! How long the host thread lives, and how long systemd is asked to wait for it.

use super::*;

#[test]
fn only_what_cleans_up_after_a_death_has_an_end_by_the_clock() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Without a clock a limit of any length would panic.
    let clockless = runtime.build().unwrap();
    assert_eq!(clockless.block_on(within(None, async { ExitReason::Done })), ExitReason::Done);
    let timed = runtime.enable_time().build().unwrap();
    let endless = within(Some(Duration::from_millis(10)), std::future::pending());
    assert_eq!(timed.block_on(endless), ExitReason::Unconfirmed);
}

#[test]
fn more_time_is_asked_for_as_long_as_the_slowest_group_may_take_and_no_longer() {
    let mut config = held::tests::config(&["alpha"]);
    config.groups[0].timeout_stop = Duration::from_secs(600);
    assert_eq!(hand_over(&config), Duration::from_secs(620));
    let now = Instant::now();
    assert!(!wants_time(None, now), "nothing is handed over");
    assert!(wants_time(Some(now + hand_over(&config)), now));
    assert!(!wants_time(Some(now), now));
}
