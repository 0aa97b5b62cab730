//! `semper demo`.

use crate::harness::semper;

#[test]
fn the_demo_shows_what_it_promises() {
    let output = semper().args(["demo", "--kills", "5", "--seed", "7"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("byte for byte").count(), 2, "{said}");
    assert!(said.contains("--seed 7"), "{said}");
}
