//! A value as `serde_json` holds it, for records that others read.

use serde_json::{Map, Number};

use super::{Shape, Value};

/// Whole numbers up to here are exact as doubles and as integers.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl Value<'_> {
    /// The value as `serde_json` holds it: numbers as doubles, written as integers where they are whole and exact. None
    /// where it cannot: more than `depth_max` levels, a lone surrogate, a number that overflowed.
    ///
    /// It recurses, and so does all that reads what it gives; `depth_max` is the bound of both.
    #[must_use]
    pub fn to_plain(self, depth_max: usize) -> Option<serde_json::Value> {
        use serde_json::Value as Plain;
        Some(match self.shape() {
            Shape::Null => Plain::Null,
            Shape::Bool(value) => Plain::Bool(value),
            Shape::Number(number) => Plain::Number(plain_number(number)?),
            Shape::Text(text) => Plain::String(text.to_str()?.into_owned()),
            Shape::Array(array) => {
                let inner = depth_max.checked_sub(1)?;
                Plain::Array(array.iter().map(|value| value.to_plain(inner)).collect::<Option<_>>()?)
            }
            Shape::Object(object) => {
                let inner = depth_max.checked_sub(1)?;
                let entry =
                    |(key, value): (super::Text<'_>, Self)| Some((key.to_str()?.into_owned(), value.to_plain(inner)?));
                // Of equal keys the last counts, here as there.
                Plain::Object(object.iter().map(entry).collect::<Option<Map<_, _>>>()?)
            }
        })
    }
}

fn plain_number(number: f64) -> Option<Number> {
    if number.trunc() == number && number.abs() <= WHOLE_MAX {
        // Exact by the bound; minus zero becomes zero, as ECMAScript prints it.
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}
