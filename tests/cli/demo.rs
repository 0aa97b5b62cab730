//! `semper demo`.

use crate::harness::semper;

#[test]
fn the_demo_shows_what_it_promises() {
    let output = semper().args(["demo", "--kills", "5", "--seed", "7"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("byte for byte").count(), 2, "{said}");
    assert!(said.contains("--seed 7"), "{said}");
    assert!(said.contains("; with Semper and 5 kills "), "{said}");
    // A row for each kill, in which the runtime had committed something before, and one that sums them up.
    let table = said.lines().skip_while(|line| !line.starts_with("kill  generation")).skip(1);
    let rows: Vec<Vec<&str>> =
        table.map(|line| line.split_whitespace().collect()).take_while(|row: &Vec<_>| !row.is_empty()).collect();
    let first: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(first, ["1", "2", "3", "4", "5", "most"], "{said}");
    let generations: Vec<u64> = rows[..5].iter().map(|row| row[1].parse().unwrap()).collect();
    assert!(generations.is_sorted() && generations[0] > 0, "{said}");
}
