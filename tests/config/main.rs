//! Configuration and generator against real files below a root of their own.

mod broken;
mod cases;
mod generator;
mod mutation;
mod sound;
mod tree;
