//! Programs that others built: static packages of the distribution, which `.ci/run` installs.

use std::time::Duration;

use crate::harness::{Case, Rng, seed, tool};

const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

fn assert_unkillable(case: &Case, kills: u32) {
    let native = case.native();
    let mut random = Rng::with_seed(seed());
    assert_eq!(case.killed(kills, Duration::from_millis(250), &mut random), native);
}

#[test]
fn busybox_awk_survives() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let script = r#"BEGIN { for (i = 1; i <= 400000; i++) { a[i % 5000] = a[(i * 7) % 5000] substr(i, 1, 3);
        if (length(a[i % 5000]) > 60) a[i % 5000] = ""; s += length(a[i % 5000]);
        if (i % 10000 == 0) print i, s } }"#;
    assert_unkillable(&Case::new(busybox, &["awk", script]), 10);
}

#[test]
fn busybox_sort_and_sums_survive() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let text: String =
        (0..60_000u64).map(|number| format!("{:x}\n", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for args in [&["sort", "text"][..], &["sha256sum", "text"], &["gzip", "-c", "text"], &["wc", "text"]] {
        let mut case = Case::new(&busybox, args);
        case.files = vec![("text".into(), text.clone().into_bytes())];
        assert_unkillable(&case, 4);
    }
}
