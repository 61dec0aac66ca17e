//! Has cargo build the binary whenever it builds the workspace's tests: those of `amcp-tests` run it as a process.

use std::process::Command;

#[test]
fn the_binary_says_its_version() {
    let said = Command::new(env!("CARGO_BIN_EXE_amcp"))
        .arg("--version")
        .output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    assert_eq!(said.trim(), concat!("amcp ", env!("CARGO_PKG_VERSION")));
}
