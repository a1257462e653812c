//! What systemd is told: the whole of it for one configuration, and that no member is ever left unguarded.
use crate::tree::Tree;
#[test]
fn placeholder() {
    let _ = Tree::empty();
}
