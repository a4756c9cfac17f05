//! Numbers compared by value, exactly: 1 is 1.0, and 9007199254740993 is not 9007199254740992.

use std::cmp::Ordering;

/// The value of a JSON number: an integer as far as 64 bits reach, with or without a sign, else the nearest float64.
/// Never NaN. No further, so that a filter, which `serde_json` reads, and metadata agree on what a number is.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Written without fraction and exponent, from -2^63 to 2^64 - 1.
    Integer(i128),
    /// Anything else; infinite beyond float64's range.
    Float(f64),
}

impl Number {
    /// The value of a number as JSON writes it.
    pub(super) fn of_text(text: &str) -> Self {
        // A number that is none of `serde_json`'s lies beyond float64's range.
        let beyond = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        serde_json::from_str(text).map_or(Self::Float(beyond), |number| Self::of_value(&number))
    }

    /// The value of one of `serde_json`'s.
    pub fn of_value(number: &serde_json::Number) -> Self {
        let integer = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
        integer.map_or_else(|| Self::Float(number.as_f64().unwrap_or(0.0)), Self::Integer)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).expect("JSON has no NaN"),
            (Self::Integer(a), Self::Float(b)) => compare(*a, *b),
            (Self::Float(a), Self::Integer(b)) => compare(*b, *a).reverse(),
        }
    }
}

/// Whole parts first, where both are integers; then the fraction decides. Converting `a` to a float would round.
fn compare(a: i128, b: f64) -> Ordering {
    const LIMIT: f64 = 170141183460469231731687303715884105728.0; // 2^127
    if b >= LIMIT {
        Ordering::Less
    } else if b < -LIMIT {
        Ordering::Greater
    } else {
        let fraction = b - b.trunc();
        a.cmp(&(b as i128)).then(0.0.partial_cmp(&fraction).expect("finite"))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Number {
        Number::of_text(text)
    }

    #[test]
    fn values_are_compared_exactly() {
        let ascending = [
            "-1e400",
            "-1e39",
            "-170141183460469231731687303715884105728",
            "-18446744073709551616",
            "-1.5",
            "-1",
            "-0.5",
            "0",
            "5e-324",
            "0.1",
            "1",
            "1.0000000000000002",
            "9007199254740992",
            "9007199254740993",
            "12345678901234567890",
            "12345678901234567891",
            "1e19",
            "18446744073709551615",
            "18446744073709551616",
            "1e38",
            "1.8e38",
            "1e308",
            "1e400",
        ];
        // 1e19 is below 12345678901234567890: keep the list honest by sorting numbers, not by trusting it.
        let mut numbers: Vec<_> = ascending.iter().map(|text| (of(text), *text)).collect();
        numbers.sort_by_key(|(number, _)| *number);
        let place = |text| numbers.iter().position(|(_, found)| *found == text).unwrap();
        assert!(place("1e19") < place("12345678901234567890"));
        let others: Vec<_> = ascending.iter().filter(|text| **text != "1e19").collect();
        for (low, high) in others.iter().zip(&others[1..]) {
            assert!(of(low) < of(high), "{low} < {high}");
            assert!(of(high) > of(low) && of(low) != of(high));
        }
    }

    #[test]
    fn ways_to_write_a_number_are_equal() {
        for (a, b) in [
            ("1", "1.0"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("9007199254740992", "9007199254740992.0"),
            ("12e-1", "1.20"),
            ("1e19", "10000000000000000000"),
        ] {
            assert_eq!(of(a), of(b), "{a} {b}");
        }
    }

    /// Read by std, which rounds to nearest: without `float_roundtrip` some of these would be one bit off.
    #[test]
    fn floats_are_the_nearest() {
        for text in [
            "0.1",
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890",
            "0.30000000000000004",
            "2.0649703567367473e-308",
            "1.5",
            "1e308",
            "1e-320",
            "1e-400",
            "-1e400",
        ] {
            let Number::Float(float) = of(text) else { panic!("{text} is no integer of 64 bits") };
            assert_eq!(float.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
        for (text, integer) in [("18446744073709551615", u64::MAX.into()), ("-9223372036854775808", i64::MIN.into())] {
            assert!(matches!(of(text), Number::Integer(found) if found == integer), "{text}");
        }
    }
}
