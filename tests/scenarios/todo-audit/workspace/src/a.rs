// SPDX-License-Identifier: MIT
// TODO: finish
fn main() {}
