//! Host names by the rules of DNS and IDNA.
