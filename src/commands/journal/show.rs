//! `semper journal show` and `export`.

use std::process::ExitCode;

use semper_domains::inputs::Inputs;
use semper_journal::{Error, Kind, Lost, Note, Reader, Record, Seen};
use serde::Serialize;

use super::super::failure::code;
use super::super::{Failure, say};
use super::{folder, say_none, shown_time};
use crate::cli::JournalShow;

/// Bytes of a record that a line shows.
const SHOWN: usize = 160;

/// How records are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A line for people.
    Text,
    /// A JSON object on each line, with the bytes as text as far as they are.
    Json,
    /// The same, with the bytes in hexadecimal digits.
    Export,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line {
    sequence: u64,
    time: String,
    writer: u32,
    writer_began: u32,
    number: u64,
    /// Not what the program wrote, but what it was told.
    inputs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// A line of JSON about records that cannot be read.
#[derive(Serialize)]
struct LostLine {
    lost_from: u64,
    lost_to: u64,
    file: String,
    offset: u64,
    reason: String,
    given_up: bool,
}

pub fn run(command: &JournalShow, form: Form) -> Result<ExitCode, Failure> {
    let (folder, id) = folder(&command.store)?;
    let failed = |error: Error| Failure::journal(&command.store, &error);
    let mut reader = match Reader::open(folder, id, command.first()) {
        Ok(reader) => reader,
        Err(Error::None) => {
            if form == Form::Text {
                say_none(&command.store);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut sound = true;
    while let Some(seen) = reader.step().map_err(failed)? {
        match seen {
            Seen::Record(record) if command.is_after(record.sequence) => break,
            Seen::Record(record) if command.wants(&record) => show(&record, form)?,
            Seen::Record(_) => {}
            Seen::Lost { lost, .. } if command.is_after(lost.from) => break,
            Seen::Lost { lost, given_up } => {
                sound &= given_up;
                show_lost(&lost, given_up, form)?;
            }
        }
    }
    Ok(ExitCode::from(if sound { 0 } else { code::FOUND }))
}

fn show(record: &Record, form: Form) -> Result<(), Failure> {
    let note = (record.kind == Kind::Note).then(|| match Note::from_bytes(&record.bytes) {
        Some(note) => note.to_string(),
        None => "a note of another version".to_owned(),
    });
    let told = record.writer.is_inputs().then(|| match Inputs::read(&record.bytes) {
        Some(inputs) => inputs.to_string(),
        None => "inputs of another version".to_owned(),
    });
    if form == Form::Text {
        let what = note.or(told).unwrap_or_else(|| shown(&record.bytes));
        let (time, writer, number) = (shown_time(record.time), record.writer, record.number);
        if record.kind == Kind::Note {
            say(format_args!("{:>8}  {time}  {writer}: {what}", record.sequence));
        } else {
            say(format_args!("{:>8}  {time}  {writer}, {number}: {what}", record.sequence));
        }
        return Ok(());
    }
    let is_data = record.kind == Kind::Data;
    let is_text = is_data && told.is_none();
    say_json(&Line {
        sequence: record.sequence,
        time: shown_time(record.time),
        writer: record.writer.program(),
        writer_began: record.writer.born,
        number: record.number,
        inputs: told.is_some(),
        told,
        note,
        text: (is_text && form == Form::Json).then(|| String::from_utf8_lossy(&record.bytes).into_owned()),
        hex: (is_data && form == Form::Export).then(|| record.bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}

fn show_lost(lost: &Lost, given_up: bool, form: Form) -> Result<(), Failure> {
    if form == Form::Text {
        let fate = if given_up { "given up" } else { "LOST" };
        say(format_args!("{:>8}  {fate}: {lost}", lost.from));
        return Ok(());
    }
    say_json(&LostLine {
        lost_from: lost.from,
        lost_to: lost.to,
        file: lost.file.clone(),
        offset: lost.offset,
        reason: lost.reason.clone(),
        given_up,
    })
}

fn say_json(line: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(line)
        .map_err(|error| Failure::new(code::FAILED, format!("the record is no JSON: {error}")))?;
    say(text);
    Ok(())
}

/// Bytes on one line.
fn shown(bytes: &[u8]) -> String {
    let mut text: String =
        bytes.iter().take(SHOWN).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    if bytes.len() > SHOWN {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}
