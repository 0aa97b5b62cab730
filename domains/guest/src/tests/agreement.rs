//! Names and numbers are those of the kernel.

use crate::keys::ORDERS;
use crate::{Error, KeyType, Registers, Resource, Rights, State};
use semper_domains::objects;
use std::collections::BTreeSet;

#[test]
fn errors_have_the_kernels_codes_and_names() {
    let kernel: Vec<(u32, &str)> = objects::InvokeError::TABLE.iter().map(|(code, name, _)| (*code, *name)).collect();
    assert_eq!(Error::TABLE, kernel);
}

#[test]
fn an_error_says_what_the_kernels_says() {
    use objects::{InvokeError, Which};
    let key = objects::KeyType::Segment;
    for error in [
        InvokeError::WrongOrder { key, order: 77 },
        InvokeError::StringTooLong { len: 5000, limit: 4096 },
        InvokeError::MissingKey { argument: 3 },
        InvokeError::WrongKey { which: Which::Argument(1), wanted: key, found: objects::KeyType::Null },
        InvokeError::NoRight { which: Which::Invoked, missing: objects::Rights::READ.or(objects::Rights::MANAGE) },
        InvokeError::Void { which: Which::Invoked },
        InvokeError::Empty { slot: 5 },
        InvokeError::Limit { of: objects::Resource::BankDepth, limit: 16 },
        InvokeError::BadWord { word: 2, value: 0x1234 },
        InvokeError::BadSlot { slot: 99 },
        InvokeError::Timeout,
        InvokeError::WrongPhase { phase: objects::Phase::Queued },
        InvokeError::Overlap { page: 0x400 },
        InvokeError::NotMapped { page: 0x401 },
        InvokeError::BadString { len: 183 },
        InvokeError::Outside { errno: 111 },
        InvokeError::Rescinded,
    ] {
        assert_eq!(Error::from_answer(error.code(), error.words()).to_string(), error.to_string());
    }
}

#[test]
fn every_order_has_a_method_of_its_name() {
    let ours: BTreeSet<(u8, u32, &str)> = ORDERS.iter().map(|(key, code, name)| (*key as u8, *code, *name)).collect();
    let kernel: BTreeSet<(u8, u32, &str)> =
        objects::orders().map(|order| (order.on as u8, order.code, order.name)).collect();
    assert_eq!(ours, kernel);
}

#[test]
fn key_types_and_rights_have_the_kernels_numbers() {
    for kernel in objects::KeyType::ALL {
        assert_eq!(KeyType::from_number(kernel as u64).unwrap().name(), kernel.name());
    }
    for bits in 0..64 {
        assert_eq!(Rights::from_bits(bits).to_string(), objects::Rights::from_bits(bits).to_string());
    }
    for resource in 1..=9 {
        assert!(!matches!(Resource::from_word(resource), Resource::Other(_)));
    }
    assert_eq!(State::from_word(objects::Phase::Faulted as u64), State::Faulted);
    assert_eq!(State::from_word(objects::Phase::Dying as u64), State::Dying);
}

#[test]
fn registers_lie_as_the_kernel_has_them() {
    let kernel = semper_domains::cpu::Registers { r8: 1, rdi: 2, rsi: 3, rsp: 4, rip: 5, cr2: 6, ..Default::default() };
    let bytes = zerocopy::IntoBytes::as_bytes(&kernel);
    let ours = Registers::from_bytes(bytes);
    assert_eq!((ours.r8, ours.rdi, ours.rsi, ours.rsp, ours.rip, ours.cr2), (1, 2, 3, 4, 5, 6));
    assert_eq!(ours.as_bytes(), bytes);
}
