//! Semper: the domains.
