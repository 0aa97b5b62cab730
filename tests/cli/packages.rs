//! Programs that others built: static packages of the distribution, which `.ci/run` installs.

use crate::harness::{Case, tool};
use crate::killing::assert_unkillable;

pub const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

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

/// An interpreter of the distribution's, with associative arrays, patterns, files that it writes itself, and input read line by line.
#[test]
fn a_script_of_bash_survives() {
    let Some(bash) = tool("bash-static", &["/bin/bash-static", "/usr/bin/bash-static"]) else { return };
    let script = r#"declare -A count; n=0; sum=0
        while read -r word rest; do
            count[$word]=$(( ${count[$word]:-0} + 1 )); n=$((n + 1)); sum=$(( (sum * 31 + ${#rest} * n) % 1000003 ))
            if (( n % 500 == 0 )); then printf '%d lines, %d words, sum %d
' $n ${#count[@]} $sum; fi
        done
        for ((i = 0; i < 8000; i++)); do
            s="${s:-}${i: -1}"; [[ $s =~ (12[0-9]) ]] && n=$((n + BASH_REMATCH[1])); s=${s: -40}
        done
        printf '%s
' "${!count[@]}" > words; mapfile -t lines < words
        echo "${#lines[@]} words, $n"; exit 11"#;
    let input: String = (1..8000u32)
        .map(|i| {
            format!(
                "w{} line {i} of the text
",
                i * 7919 % 997
            )
        })
        .collect();
    let case = Case { input: Some(input.into_bytes()), ..Case::new(bash, &["-c", script]) };
    assert_eq!(case.native().code, 11);
    assert_unkillable(&case, 10);
}

/// Commands that read files and standard input and need no other process.
const COMMANDS: &[&[&str]] = &[
    &["sort", "-k3,3nr", "-u", "text"],
    &["sort", "-o", "sorted", "text"],
    &["uniq", "-c"],
    &["grep", "-n", "77", "text"],
    &["grep", "-E", "^[0-9]+ line 1[0-9]$", "text"],
    &["sed", "-n", "5,10p;s/line/row/p", "text"],
    &["sed", "-i", "s/line/row/", "text"],
    &["awk", "{s+=$1} END {print s, NR, s % 7}", "text"],
    &["awk", "{print > \"o\"} END {close(\"o\"); while ((getline l < \"o\") > 0) n += length(l); print n}", "text"],
    &["md5sum", "text"],
    &["sha512sum", "text"],
    &["gzip", "-c", "text"],
    &["bzip2", "-c", "text"],
    &["tar", "cf", "archive", "text"],
    &["find", ".", "-name", "text"],
    &["ls", "-1", "text"],
    &["wc"],
    &["od", "-c"],
    &["hexdump", "-C"],
    &["seq", "-w", "8", "12"],
    &["expr", "3", "+", "4", "*", "5"],
    &["dc", "-e", "100 k 2 v p"],
    &["bc", "-l", "sums"],
    &["dd", "if=text", "bs=100", "count=3"],
    &["cut", "-d ", "-f1,3", "text"],
    &["tr", "a-z", "A-Z"],
    &["diff", "text", "text"],
    &["cp", "text", "copy"],
    &["mv", "text", "moved"],
    &["rm", "text"],
    &["stat", "-c", "%s %F %n", "text"],
    &["base64", "text"],
    &["cal", "2", "2024"],
    &["sh", "-c", "read a; read b; echo \"$a-$b\"; f() { return 3; }; f; echo $? $((0x10 * 3)); exit 9"],
    &["sh", "-c", "kill -TERM $$"],
];

#[test]
fn commands_of_busybox_do_what_they_do_natively() {
    let Some(busybox) = tool("busybox", BUSYBOX) else { return };
    let text: String = (1..2000u32).map(|number| format!("{} line {number}\n", number * 7919 % 10007)).collect();
    for args in COMMANDS {
        let mut case = Case::new(&busybox, args);
        case.files = vec![
            ("text".into(), text.clone().into_bytes()),
            ("sums".into(), b"scale=30; 4*a(1); 2^300\nquit\n".to_vec()),
        ];
        case.input = Some(b"b\na\na\nc\n".to_vec());
        assert_eq!(case.undisturbed(), case.native(), "{args:?}");
    }
}
