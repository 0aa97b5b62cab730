//! `docs/objects.md` says what the tables of orders and errors say.

use super::*;
use std::fmt::Write;
use std::path::Path;

fn list(names: &[&str]) -> String {
    names.join("; ")
}

fn keys(order: &Order) -> String {
    let describe = |argument: &KeyArgument| {
        let types: Vec<_> = argument.types.iter().map(|t| t.name()).collect();
        let mut text = argument.name.to_owned();
        if !types.is_empty() && types != [argument.name] {
            let _ = write!(text, " ({})", types.join(" or "));
        }
        if argument.rights != Rights::NONE {
            let _ = write!(text, " with {}", argument.rights);
        }
        text
    };
    order.keys.iter().map(describe).collect::<Vec<_>>().join("; ")
}

fn takes(order: &Order) -> String {
    let mut parts = Vec::new();
    if !order.words.is_empty() {
        parts.push(format!("words: {}", list(order.words)));
    }
    if order.string != 0 {
        parts.push(format!("string: up to {} bytes", order.string));
    }
    if !order.keys.is_empty() {
        parts.push(format!("keys: {}", keys(order)));
    }
    parts.join("<br>")
}

fn gives(order: &Order) -> String {
    let mut parts = Vec::new();
    if !order.gives.is_empty() {
        parts.push(format!("words: {}", list(order.gives)));
    }
    if !order.gives_string.is_empty() {
        parts.push(format!("string: {}", order.gives_string));
    }
    if !order.gives_keys.is_empty() {
        parts.push(format!("keys: {}", list(order.gives_keys)));
    }
    parts.join("<br>")
}

const INTRODUCTION: &str = "\
# Objects, keys and orders

Generated from the tables in `domains/src/objects`; `SEMPER_BLESS=1 cargo test -p semper-domains docs` writes it anew. How objects lie in
segment 0, and why: [decisions/0300](decisions/0300-objects-and-keys.md).

A domain invokes a key in one of its slots with an order code, four words, a string of up to 4096 bytes and up to four keys, by *call* (waits
for the answer), *send* (goes on) or *reply and wait* (answers by a resume key, then waits for any message). Slots 0 to 15 are the domain's own;
slot 16 holds the key that answers the last caller; slot 255, as the one to invoke, means the domain's own slots. An answer has a code: 0, one
of the errors below, or, from another domain, any number below 2^31.

What the table of orders says is checked before an order runs: the code, the rights of the invoked key, the length of the string, and
the number, types and rights of the keys. What is refused has changed nothing.
";

fn text() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("\n## Keys\n\n| type | number | rights that there are |\n| --- | --- | --- |\n");
    for key_type in KeyType::ALL {
        let _ = writeln!(out, "| {key_type} | {} | {} |", key_type as u8, key_type.full_rights());
    }
    out.push_str("\nBits of the rights: ");
    let bits: Vec<_> = (0..6).map(|bit| format!("{} = {}", Rights::from_bits(1 << bit), 1 << bit)).collect();
    let _ = writeln!(out, "{}. A weaker key has fewer; no order gives a key more.", bits.join(", "));
    out.push_str(
        "\n**start** keys have no orders of the kernel's: a call or send reaches the domain with the key's badge. A call needs CALL and \
         SEND, a send SEND. **resume** keys are invoked with the answer code as order code; every copy is void after the first use.\n",
    );
    for on in KeyType::ALL.into_iter().chain([KeyType::Own]) {
        let orders: Vec<_> = orders().filter(|order| order.on == on).collect();
        if orders.is_empty() {
            continue;
        }
        let title = if on == KeyType::Own { "own slots (slot 255)" } else { on.name() };
        let _ = write!(out, "\n## {title}\n\n| code | order | needs | takes | gives | what it does |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for order in orders {
            let Order { code, name, rights, does, .. } = order;
            let _ = writeln!(out, "| {code} | {name} | {rights} | {} | {} | {does} |", takes(order), gives(order));
        }
    }
    out.push_str("\n## Messages to keepers\n\n| order code | from | words | key 0 |\n| --- | --- | --- | --- |\n");
    out.push_str("| 1 | a domain that faulted | signal; address; detail; instruction pointer | the domain |\n");
    out.push_str("| 2 | a fault in a mapping of a segment | page of the segment; address; detail; instruction pointer | the segment, without CALL |\n");
    out.push_str("| 3 | a domain whose meter is used up | nanoseconds used | the meter |\n");
    out.push_str("\nThe string is the register state. The answer 0 lets the domain go on at its instruction; any other leaves it standing.\n");
    out.push_str("\n## Errors\n\nThe words of the answer name what was wrong.\n\n| code | error | words |\n| --- | --- | --- |\n");
    for (code, name, words) in InvokeError::TABLE {
        let _ = writeln!(out, "| {code:#x} | {name} | {words} |");
    }
    out.push_str("\nOf what a `Limit` is: ");
    let resources = [
        Resource::Pages,
        Resource::Records,
        Resource::Table,
        Resource::BankDepth,
        Resource::MeterDepth,
        Resource::Mappings,
        Resource::SegmentPages,
        Resource::Versions,
        Resource::Segments,
    ];
    let resources: Vec<_> = resources.iter().map(|r| format!("{} {r}", *r as u8)).collect();
    let phases: Vec<_> = Phase::ALL.iter().map(|p| format!("{} {p}", *p as u8)).collect();
    let _ = writeln!(out, "{}.\n\nStates of a domain: {}.", resources.join(", "), phases.join(", "));
    out.push_str("\n## Limits\n\n| what | limit |\n| --- | --- |\n");
    for (what, limit) in [
        ("bytes of a string", u64::from(MAX_STRING)),
        ("keys of a message", MESSAGE_KEYS as u64),
        ("slots of a domain", u64::from(SLOTS)),
        ("banks above each other", MAX_BANK_DEPTH.into()),
        ("meters above each other", MAX_METER_DEPTH.into()),
        ("mappings of a domain", MAX_MAPPINGS.into()),
        ("pages of a segment", MAX_SEGMENT_PAGES),
        ("objects freed, or waiters told, in one transaction", STEP.into()),
    ] {
        let _ = writeln!(out, "| {what} | {limit} |");
    }
    out
}

#[test]
fn docs_list_the_orders_and_errors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/objects.md");
    let wanted = text();
    if std::env::var_os("SEMPER_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/objects.md is out of date; run this test with SEMPER_BLESS=1");
}
