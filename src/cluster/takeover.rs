//! Whether this node may start a group now.

/// Why the former owner cannot be running the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It never had an owner that anybody heard of.
    Fresh,
    /// The owner said so, for exactly its grant, after every stop was confirmed.
    Release,
    /// Nothing was heard of it for the deadtime, on all links, and nobody answered for its addresses.
    Silence,
}
