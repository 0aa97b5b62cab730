//! Sides that went on without each other, stayed behind, or are not all there.
