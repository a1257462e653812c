//! The rows of the table: one function each, one file per theme. A row boots its own hosts, so that none inherits a state.

mod addresses;
mod calm;
mod control;
mod cuts;
mod deaths;
mod edges;
mod guards;
mod instruments;
mod interfaces;
mod ipv6;
mod lastresort;
mod links;
mod mass;
mod mistakes;
mod moves;
mod nobus;
mod packets;
mod power;
mod recording;
mod rollout;
mod steps;
mod words;

use crate::pair::Lab;
use crate::sys::Result;

/// One row: its name, and the function that shows it and returns its figures.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub show: fn(&Lab) -> Result<String>,
    /// It needs our program on the hosts.
    pub program: bool,
}

macro_rules! rows {
    ($($theme:ident::$name:ident),* $(,)?) => {
        vec![$(Row { name: stringify!($name), show: $theme::$name, program: true }),*]
    };
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![Row { name: "row00_instruments", show: instruments::row00_instruments, program: false }];
    rows.extend::<Vec<Row>>(rows![
        moves::row01_demo,
        power::row02_power_loss_100_300,
        power::row03_power_loss_10_30,
        power::row04_power_loss_with_nginx,
        calm::row05_no_false_takeover,
        moves::row06_move,
        cuts::row07_service_cable,
        cuts::row08_heartbeats_cut_service_alive,
        cuts::row09_split_and_heal,
        moves::row10_orderly_leave,
        deaths::row11_daemon_killed_10_30,
        deaths::row11_daemon_killed_200_1000,
        steps::row11_killed_at_every_step_of_a_move,
        steps::row11_killed_at_every_step_of_an_order,
        steps::row11_killed_at_every_step_of_a_takeover,
        deaths::row11_daemon_frozen,
        deaths::row11_deaths_in_a_row,
        lastresort::row11_beaten_owner,
        lastresort::row11_closed_ways,
        lastresort::row11_last_resort,
        guards::row12_guards,
        guards::row12_not_yet_up,
        edges::row12_takeover_during_a_reload,
        edges::row12_takeover_by_what_runs,
        power::row13_cold_start,
        cuts::row14_links_cut_in_turn,
        addresses::row15_deleted_addresses,
        packets::row16_forged_packets,
        deaths::row17_restart_and_key_rotation,
        calm::row18_journal_stands_still,
        mistakes::row19_member_cannot_start,
        mistakes::row20_reload_refused,
        calm::row21_small,
        links::row31_kinds_of_links,
        links::row32_clusters_on_one_lan,
        interfaces::row39_interfaces_come_and_go,
        recording::row40_recording,
        nobus::row41_without_a_bus,
        nobus::row41_foreign_events,
        control::row37_polkit,
        ipv6::row33_ipv6_addresses,
        mass::row38_mass_addresses,
        mass::row38_many_groups,
        words::row36_standby_and_takeover,
        words::row36_maintenance,
        rollout::row35_rollout,
        rollout::row35_reloads,
        rollout::row35_killed_in_a_change,
    ]);
    rows
}
