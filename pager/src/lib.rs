//! Semper: the pager.
