//! The durable pages.

mod ids;

pub use ids::{Generation, MAX_SEGMENT_PAGES, PAGE_SIZE, Page, PageIndex, PageRange, SegmentId};
