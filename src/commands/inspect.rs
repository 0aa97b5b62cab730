//! `semper inspect`.

use std::process::ExitCode;

use semper::control::Request;
use semper::runtime::{Inspected, offline_inspect};
use semper_domains::native::inspect::{DomainView, KeyView, ObjectDetail, ObjectView, RegistersView, SlotView};

use super::document::document;
use super::ls::{left, seconds};
use super::{Failure, say, status};
use crate::cli::Inspect;

/// Registers in one line.
const REGISTERS_A_LINE: usize = 3;

pub fn run(command: &Inspect) -> Result<ExitCode, Failure> {
    let store = &command.store;
    let request = Request::Inspect { object: command.object.clone() };
    let (inspected, json): (Inspected, String) =
        document(store, &request, || Ok(offline_inspect(store, &command.object)?))?;
    match inspected {
        _ if command.json => say(json),
        Inspected::Object(object) => show(&object),
        Inspected::Linux(program) => {
            say("linux program");
            status::show_program(&program);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn field(name: &str, value: impl std::fmt::Display) {
    say(format_args!("{name:<12} {value}"));
}

fn optional(name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        field(name, value);
    }
}

fn show(view: &ObjectView) {
    let kind = match &view.detail {
        ObjectDetail::Domain(_) => "domain",
        ObjectDetail::Segment { .. } => "segment",
        ObjectDetail::Page => "page",
        ObjectDetail::Node { .. } => "node",
        ObjectDetail::Meter { .. } => "meter",
        ObjectDetail::Bank { .. } => "bank",
        ObjectDetail::Factory { .. } => "factory",
        ObjectDetail::Timer { .. } => "timer",
        ObjectDetail::Console { .. } => "console",
    };
    field(kind, &view.object);
    optional("bank", view.bank.as_ref());
    match &view.detail {
        ObjectDetail::Domain(domain) => show_domain(domain),
        ObjectDetail::Segment { number, pages, resident, keeper } => {
            field("number", number);
            field("pages", pages);
            optional("in memory", *resident);
            field("keeper", key(keeper));
        }
        ObjectDetail::Page => {}
        ObjectDetail::Node { slots } => show_slots(slots),
        ObjectDetail::Meter { left_ns, used_ns, above, keeper } => {
            field("budget", left(*left_ns));
            field("used", seconds(*used_ns));
            optional("above", above.as_ref());
            field("keeper", key(keeper));
        }
        ObjectDetail::Bank { pages_used, pages_allowed, records_used, records_allowed, dying, depth } => {
            field("pages", format_args!("{pages_used} of {pages_allowed}"));
            field("records", format_args!("{records_used} of {records_allowed}"));
            field("banks above", depth);
            field("destroyed", if *dying { "at work" } else { "no" });
        }
        ObjectDetail::Factory { sealed, holes, image, entry, first_page, slots } => {
            field("sealed", if *sealed { "yes" } else { "no" });
            field("holes", holes);
            field("image", key(image));
            field("first page", first_page);
            field("entry", format_args!("{:#x} {:#x} {:#x}", entry[0].0, entry[1].0, entry[2].0));
            show_slots(slots);
        }
        ObjectDetail::Timer { at_ns, fired_ns, waiter } => {
            field("goes off", at_ns.map_or_else(|| "not set".into(), seconds));
            optional("went off", fired_ns.map(seconds));
            optional("waited for", waiter.as_ref());
        }
        ObjectDetail::Console { number } => field("program", number),
    }
}

fn show_domain(domain: &DomainView) {
    let linux = if domain.linux { ", a Linux program" } else { "" };
    optional("program", domain.program.as_ref().map(|name| format!("{name}{linux}")));
    field("phase", format_args!("{}{}", domain.phase, if domain.stopped { ", stopped" } else { "" }));
    field("CPU", seconds(domain.cpu_ns));
    optional("for", domain.cpu_level.as_ref());
    optional("process", domain.pid);
    optional("meter", domain.meter.as_ref());
    field("keeper", key(&domain.keeper));
    optional("factory", domain.factory.as_ref());
    if let Some(wait) = &domain.waits {
        let until = match wait.until.as_str() {
            "turn" => "its turn at domain",
            "answer" => "the answer of domain",
            "keeper" => "its keeper, domain",
            "input" => "input",
            "checkpoint" => "a checkpoint",
            _ => "a timer, or the end of a bank",
        };
        let object = wait.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
        let deadline = wait.deadline_ns.map(|at| format!(", until {} of the world's clock", seconds(at)));
        field("waits for", format_args!("{until}{object}{}", deadline.unwrap_or_default()));
    }
    for (name, list) in [("callers", &domain.callers), ("unanswered", &domain.unanswered)] {
        if !list.is_empty() {
            field(name, list.join(" "));
        }
    }
    show_slots(&domain.slots);
    for mapping in &domain.mappings {
        let rights = if mapping.write { "read, write" } else { "read" };
        let (from, pages, offset, object) = (mapping.address.0, mapping.pages, mapping.offset, &mapping.object);
        field("memory", format_args!("{from:#014x} {pages} pages of {object} from page {offset}, {rights}"));
    }
    if let Some(registers) = &domain.registers {
        show_registers(registers);
    }
}

fn show_registers(registers: &RegistersView) {
    for line in registers.named().chunks(REGISTERS_A_LINE) {
        let line: Vec<String> = line.iter().map(|(name, value)| format!("{name:<6} {value:#018x}")).collect();
        field("registers", line.join("  "));
    }
}

fn show_slots(slots: &[SlotView]) {
    for SlotView { slot, key: held } in slots {
        field(&format!("slot {slot}"), key(held));
    }
}

fn key(key: &KeyView) -> String {
    if key.key_type == "null" {
        return "none".into();
    }
    let object = key.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
    let rights = if key.rights.is_empty() { String::new() } else { format!(" [{}]", key.rights.join(", ")) };
    let badge = key.badge.map(|badge| format!(", badge {badge}")).unwrap_or_default();
    let void = if key.void { ", void" } else { "" };
    format!("{}{object}{rights}{badge}{void}", key.key_type)
}
