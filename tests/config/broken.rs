//! One mistake each: the right file, line, column, what is wrong, and the remedy, and nothing else.

use crate::cases::{Broken, CLUSTER_CASES, Case, GROUP_CASES, HOST_CASES};
use crate::tree::{CLUSTER, DB, KEYS, LOCAL, Tree, WEB};

/// What differs from the expectation, or nothing.
fn check(case: &Case) -> Option<String> {
    let tree = Tree::sound();
    let Broken { text, line, column } = case.broken();
    tree.write(case.file, &text);
    let problems = tree.load().err().unwrap_or_default();
    let right = matches!(problems.as_slice(), [problem]
        if problem.file == tree.path(case.file)
            && (problem.line, problem.column) == (line, column)
            && problem.what.contains(case.what)
            && problem.remedy.contains(case.remedy));
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let Case { file, new, what, remedy, .. } = case;
    (!right).then(|| format!("{file}, {new:?}: not {line}:{column} {what:?}; {remedy:?} but {shown:#?}"))
}

fn check_all(cases: &[Case]) {
    let wrong: Vec<String> = cases.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn each_mistake_in_the_clusters_file_is_named_with_its_place_and_remedy() {
    check_all(CLUSTER_CASES);
}

#[test]
fn each_mistake_in_this_hosts_files_is_named_with_its_place_and_remedy() {
    check_all(HOST_CASES);
}

#[test]
fn each_mistake_in_a_group_is_named_with_its_place_and_remedy() {
    check_all(GROUP_CASES);
}

#[test]
fn all_mistakes_of_all_files_come_at_once_and_sorted() {
    let tree = Tree::sound();
    tree.replace(CLUSTER, "\"100ms\"", "\"soon\"");
    tree.replace(CLUSTER, "\"172.16.1.76\"", "\"beta\"");
    tree.replace(LOCAL, "\"enp3s0\"", "7");
    tree.replace(KEYS, "sha256", "sha3");
    tree.replace(WEB, "nginx.service", "nginx");
    tree.replace(DB, "Nodes", "Node");
    let problems = tree.load().expect_err("six mistakes");
    let files: Vec<_> = problems.iter().map(|problem| problem.file.clone()).collect();
    assert_eq!(files, [KEYS, CLUSTER, CLUSTER, LOCAL, DB, WEB].map(|file| tree.path(file)), "{problems:#?}");
}

#[test]
fn a_host_that_is_no_node_hears_its_name_and_both_remedies() {
    let tree = Tree::sound();
    let problems = hafailover::config::load(&tree.paths(), "Gamma").expect_err("no node");
    let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
    assert_eq!((problem.line, problem.column), (3, 1));
    assert!(problem.what.contains("`uname -n` is \"gamma\""), "{problem}");
    assert!(problem.remedy.contains("local.toml"), "{problem}");
}

#[test]
fn a_label_counts_with_this_hosts_own_name_of_the_interface() {
    let tree = Tree::sound();
    tree.replace(WEB, "dev eth0", "dev eth0 label website");
    let digest = |tree: &Tree| tree.loaded().config.groups[1].digest;
    let before = digest(&tree);
    tree.replace(LOCAL, "[interfaces]\n", "[interfaces]\neth0 = \"enp0s31f6\"\n");
    let problems = tree.load().expect_err("enp0s31f6:website has 17 characters");
    let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
    assert_eq!((problem.line, problem.column), (6, 37));
    assert!(problem.what.contains("\"enp0s31f6:website\"") && problem.remedy.contains("enp0s31f6"), "{problem}");
    tree.replace(WEB, "label website", "label www");
    assert_ne!(digest(&tree), before, "the label is a part of what the group means");
    // Too long where the interface keeps the cluster's name, and this host gives it another.
    tree.replace(WEB, "dev eth0 label www", "dev service-network label www");
    tree.replace(LOCAL, "eth0 = ", "service-network = ");
    let renamed = digest(&tree);
    tree.replace(WEB, "10.0.0.77", "10.0.0.79");
    assert_ne!(digest(&tree), renamed, "the digest still covers the address");
}

#[test]
fn a_missing_file_is_named() {
    for file in [CLUSTER, KEYS] {
        let tree = Tree::sound();
        tree.remove(file);
        let problems = tree.load().expect_err("a file is missing");
        assert_eq!(problems.iter().filter(|problem| problem.file == tree.path(file)).count(), 1, "{problems:#?}");
    }
}

#[test]
fn more_groups_than_can_be_told_of_at_once_are_refused() {
    let tree = Tree::sound();
    for number in 0..999 {
        let file = format!("etc/systemd/system/hafailover-group@g{number:03}.target.d/g.conf");
        let (net, host) = (number / 250, number % 250 + 1);
        tree.write(&file, format!("[X-HAFailover]\nAddress=10.1.{net}.{host}/16 dev eth0\n"));
    }
    let problems = tree.load().expect_err("1001 groups");
    let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
    assert!(problem.what.contains("1001 groups"), "{problem}");
    tree.remove(DB);
    assert_eq!(tree.loaded().config.groups.len(), 1000);
}

#[test]
fn a_file_that_would_replace_the_guard_and_a_masked_unit_are_refused() {
    let tree = Tree::sound();
    tree.write("etc/systemd/system/hafailover-group@web.target.d/50-hafailover.conf", "[Unit]\n");
    std::os::unix::fs::symlink("/dev/null", tree.path("etc/systemd/system/hafailover-group@db.target"))
        .expect("a link");
    let problems = tree.load().expect_err("two mistakes");
    let whats: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
    assert_eq!(whats.len(), 2, "{problems:#?}");
    assert!(whats[0].contains("masked"), "{whats:?}");
    assert!(whats[1].contains("replaces the guard"), "{whats:?}");
}
