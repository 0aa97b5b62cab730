//! `semper doctor`.

use crate::harness::semper;

#[test]
fn the_doctor_answers_for_people_and_for_scripts() {
    let place = tempfile::tempdir().unwrap();
    let output = semper().arg("doctor").arg(place.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Semper can run here.\n"));
    let output = semper().args(["doctor", "--json"]).arg(place.path()).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["can_run"], true);
}

#[test]
fn a_place_that_cannot_hold_a_store_is_told_with_what_to_do() {
    let output = semper().args(["doctor", "/proc"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("semper doctor DIRECTORY"));
}
