//! The `amcp` binary: parse, validate, trace, start, await a signal, drain.

fn main() {}
