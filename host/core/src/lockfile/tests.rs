//! No text and no bytes make a check panic.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
