//! The page states and the range set against plain models.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PAGES: u64 = 1500;

/// One page, plainly.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Page {
    known: bool,
    dirty: bool,
    inflight: bool,
    stored: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Known(u64, u64),
    Dirty(u64, u64),
    Discard(u64, u64),
    Evict(u64),
    Scan,
    Commit,
    Abandon,
}

fn step() -> impl Strategy<Value = Step> {
    let run = (0..PAGES - 1, 1..700u64).prop_map(|(first, len)| (first, (first + len).min(PAGES)));
    prop_oneof![
        run.clone().prop_map(|(a, b)| Step::Known(a, b)),
        run.clone().prop_map(|(a, b)| Step::Dirty(a, b)),
        run.prop_map(|(a, b)| Step::Discard(a, b)),
        (0..PAGES).prop_map(Step::Evict),
        Just(Step::Scan),
        Just(Step::Commit),
        Just(Step::Abandon),
    ]
}

fn apply(frames: &mut FrameMap, model: &mut [Page], step: Step) {
    let each = |model: &mut [Page], act: &dyn Fn(&mut Page)| model.iter_mut().for_each(act);
    match step {
        Step::Known(a, b) => {
            frames.mark_known(PageRange::between(a, b));
            each(&mut model[index(a)..index(b)], &|page| page.known = true);
        }
        Step::Dirty(a, b) => {
            frames.mark_dirty(PageRange::between(a, b));
            each(&mut model[index(a)..index(b)], &|page| (page.known, page.dirty) = (true, true));
        }
        Step::Discard(a, b) => {
            frames.discard(PageRange::between(a, b));
            each(&mut model[index(a)..index(b)], &|page| *page = Page::default());
        }
        Step::Evict(page) => {
            let state = &mut model[index(page)];
            if state.known && !state.dirty && !state.inflight {
                state.known = false;
                let (chunk, bit) = locate(PageIndex(page));
                frames.forget(chunk, Bits::of(Span { start: bit, end: bit + 1 }));
            }
        }
        Step::Scan => {
            let runs = frames.take_dirty();
            let taken: Vec<u64> = runs.iter().flat_map(|run| run.first.0..run.end()).collect();
            let expected: Vec<u64> = (0..PAGES).filter(|page| model[index(*page)].dirty).collect();
            assert_eq!(taken, expected);
            assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].first.0), "runs are maximal");
            each(model, &|page| (page.inflight, page.dirty) = (page.inflight || page.dirty, false));
        }
        Step::Commit => {
            frames.commit();
            each(model, &|page| (page.stored, page.inflight) = (page.stored || page.inflight, false));
        }
        Step::Abandon => {
            frames.abandon();
            each(model, &|page| (page.dirty, page.inflight) = (page.dirty || page.inflight, false));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn page_states_agree_with_a_plain_model(
        stored in proptest::collection::vec((0..PAGES, 1..300u64), 0..6),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let stored: Vec<PageRange> =
            stored.into_iter().map(|(first, len)| PageRange::between(first, (first + len).min(PAGES))).collect();
        let mut frames = FrameMap::new(&stored);
        let mut model = vec![Page::default(); index(PAGES)];
        for range in &stored {
            model[index(range.first.0)..index(range.end())].iter_mut().for_each(|page| page.stored = true);
        }
        for step in steps {
            apply(&mut frames, &mut model, step);
            let count = |test: &dyn Fn(&Page) -> bool| model.iter().filter(|page| test(page)).count() as u64;
            prop_assert_eq!(frames.known_pages(), count(&|page| page.known));
            prop_assert_eq!(frames.dirty_pages(), count(&|page| page.dirty) + count(&|page| page.inflight));
            for page in 0..PAGES {
                prop_assert_eq!(frames.is_known(PageIndex(page)), model[index(page)].known, "known {}", page);
                prop_assert_eq!(frames.is_stored(PageIndex(page)), model[index(page)].stored, "stored {}", page);
            }
            let window = PageRange::between(100, 1400);
            let runs: BTreeSet<u64> =
                frames.stored_runs(window).iter().flat_map(|run| run.first.0..run.end()).collect();
            let expected: BTreeSet<u64> = (100..1400).filter(|page| model[index(*page)].stored).collect();
            prop_assert_eq!(runs, expected);
            let absent: BTreeSet<u64> =
                frames.absent_stored(window).iter().flat_map(|run| run.first.0..run.end()).collect();
            let lacks = |page: &u64| model[index(*page)].stored && !model[index(*page)].known;
            prop_assert_eq!(absent, (100..1400).filter(lacks).collect::<BTreeSet<u64>>());
        }
    }

    #[test]
    fn a_range_set_agrees_with_a_plain_set(
        steps in proptest::collection::vec((any::<bool>(), 0..200u64, 0..50u64), 1..80),
        window in (0..200u64, 0..100u64),
    ) {
        let (mut ranges, mut plain) = (RangeSet::default(), BTreeSet::new());
        for (insert, first, len) in steps {
            let range = PageRange::between(first, first + len);
            if insert {
                ranges.insert(range);
                plain.extend(first..first + len);
            } else {
                ranges.remove(range);
                plain.retain(|page| !range.contains(PageIndex(*page)));
            }
            let runs: Vec<PageRange> = ranges.iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].first.0), "runs are maximal");
            let all: BTreeSet<u64> = runs.iter().flat_map(|run| run.first.0..run.end()).collect();
            prop_assert_eq!(&all, &plain);
        }
        let window = PageRange::between(window.0, window.0 + window.1);
        let within: BTreeSet<u64> = ranges.within(window).flat_map(|run| run.first.0..run.end()).collect();
        prop_assert_eq!(within, plain.iter().copied().filter(|page| window.contains(PageIndex(*page))).collect());
        for page in 0..260 {
            prop_assert_eq!(ranges.contains(PageIndex(page)), plain.contains(&page));
        }
    }
}

#[test]
fn the_spans_of_bits_are_their_runs() {
    let mut bits = Bits::EMPTY;
    for span in [Span { start: 0, end: 1 }, Span { start: 60, end: 130 }, Span { start: 500, end: 512 }] {
        bits.set_span(span);
    }
    let spans: Vec<Span> = bits.spans().collect();
    assert_eq!(spans, [Span { start: 0, end: 1 }, Span { start: 60, end: 130 }, Span { start: 500, end: 512 }]);
    bits.clear_span(Span { start: 64, end: 128 });
    assert_eq!(bits.count(), 1 + 6 + 12);
    assert_eq!(Bits::of(Span { start: 0, end: 512 }).count(), 512);
}
