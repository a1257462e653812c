//! `org.hafailover1` over a real bus of the test's own: calls, objects, signals, permissions, and what `hafailoverctl` makes of them.

mod calls;
mod daemon;
mod introspection;
mod objects;
mod permissions;
mod served;
mod watching;
