//! From files to a [`model::Config`]: `hafailover.toml`, `local.toml`, `authkeys` and the groups' drop-ins.
//! Every mistake is found at once, each with file, line, column, what is wrong and the remedy.

pub mod model;
