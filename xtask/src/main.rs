//! Maintainers' commands: `cargo xtask test | tidy | bench`.

fn main() {}
