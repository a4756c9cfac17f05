//! What plaintext looks like in a file: the byte patterns of known vectors and keys in every form that a leak could
//! take.
//!
//! A whole vector is a poor pattern: a page boundary, a TOAST chunk or a WAL page header may lie in its middle. So each
//! vector gives several short windows, each long enough (16 bytes and more) that chance does not find it: 2⁻¹²⁸ a place.

use half::f16;

/// Windows taken from each vector, spread over its length.
const WINDOWS: usize = 6;

/// How one element looks in a form.
type Encode<T> = fn(f32) -> T;

/// One byte pattern and what it stands for.
pub struct Pattern {
    pub bytes: Vec<u8>,
    /// Index into [`Patterns::forms`].
    pub form: usize,
    /// The caller's number of the vector or key.
    pub source: usize,
}

/// All patterns of a search.
#[derive(Default)]
pub struct Patterns {
    pub forms: Vec<String>,
    pub patterns: Vec<Pattern>,
}

impl Patterns {
    /// Adds every form of `vector`, as it is and scaled to length one.
    pub fn add_vector(&mut self, source: usize, vector: &[f32]) {
        self.add_scaled(source, vector, "");
        let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let unit: Vec<f32> = vector.iter().map(|&x| (f64::from(x) / norm) as f32).collect();
        if norm > 0.0 && unit != vector {
            self.add_scaled(source, &unit, "unit ");
        }
    }

    fn add_scaled(&mut self, source: usize, vector: &[f32], prefix: &str) {
        let binary: [(&str, usize, Encode<Vec<u8>>); 6] = [
            ("f32 little-endian", 4, |x| x.to_le_bytes().to_vec()),
            ("f32 big-endian", 4, |x| x.to_be_bytes().to_vec()),
            ("f16 little-endian", 8, |x| f16::from_f32(x).to_le_bytes().to_vec()),
            ("f16 big-endian", 8, |x| f16::from_f32(x).to_be_bytes().to_vec()),
            ("f64 little-endian", 3, |x| f64::from(x).to_le_bytes().to_vec()),
            ("f64 big-endian", 3, |x| f64::from(x).to_be_bytes().to_vec()),
        ];
        for (name, elements, encode) in binary {
            for window in windows(vector, elements) {
                let bytes: Vec<u8> = window.iter().flat_map(|&x| encode(x)).collect();
                self.add_bytes(source, &format!("{prefix}{name}"), &bytes);
            }
        }
        let decimal: [(&str, Encode<String>); 2] =
            [("decimal", |x| format!("{x}")), ("decimal of f64", |x| format!("{}", f64::from(x)))];
        for (name, print) in decimal {
            for window in windows(vector, 3) {
                for separator in [",", ", ", " ", "\n"] {
                    let text = window.iter().map(|&x| print(x)).collect::<Vec<_>>().join(separator);
                    self.push(source, &format!("{prefix}{name}"), text.into_bytes());
                }
            }
        }
    }

    /// Adds `bytes` as they are, in hexadecimal and in base64, under the form's name.
    pub fn add_bytes(&mut self, source: usize, name: &str, bytes: &[u8]) {
        self.push(source, name, bytes.to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.push(source, &format!("hex of {name}"), hex.to_uppercase().into_bytes());
        self.push(source, &format!("hex of {name}"), hex.into_bytes());
        for shift in 0..3 {
            let text = base64_core(bytes, shift);
            if text.iter().any(|byte| b"+/".contains(byte)) {
                let url = text.iter().map(|&byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => other,
                });
                self.push(source, &format!("base64 of {name}"), url.collect());
            }
            self.push(source, &format!("base64 of {name}"), text);
        }
    }

    fn push(&mut self, source: usize, form: &str, bytes: Vec<u8>) {
        if bytes.len() < super::FINGERPRINT {
            return; // a vector of one or two dimensions: no pattern of it would mean anything
        }
        let form = self.forms.iter().position(|known| known == form).unwrap_or_else(|| {
            self.forms.push(form.to_owned());
            self.forms.len() - 1
        });
        self.patterns.push(Pattern { bytes, form, source });
    }
}

/// Windows of `length` neighbouring elements. Only those whose elements are distinct and not tiny: zeros and repeats
/// are found in any file, and a tiny float16 is a subnormal.
fn windows(vector: &[f32], length: usize) -> Vec<&[f32]> {
    let length = length.min(vector.len()).max(1);
    let good = |window: &[f32]| {
        window.iter().all(|x| x.abs() > 1e-3 && x.abs() < 1e4)
            && (0..window.len()).all(|i| (0..i).all(|j| window[i] != window[j]))
    };
    let all: Vec<&[f32]> = vector.windows(length).step_by(length).filter(|window| good(window)).collect();
    let step = all.len().div_ceil(WINDOWS).max(1);
    all.into_iter().step_by(step).collect()
}

/// The characters of base64 that depend on `bytes` alone when `shift` unknown bytes stand before them.
fn base64_core(bytes: &[u8], shift: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |index: usize| -> u8 { (bytes[index / 8] >> (7 - index % 8)) & 1 };
    let first = (6 - (shift * 8) % 6) % 6; // bits that share a character with the unknown bytes
    let bits = bytes.len() * 8;
    (0..(bits - first) / 6)
        .map(|character| (0..6).fold(0, |value, place| value << 1 | bit(first + character * 6 + place)))
        .map(|value| ALPHABET[usize::from(value)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_at_each_alignment() {
        // RFC 4648 encodings of "foobarbazqux" behind 0, 1 and 2 bytes of "x".
        for (shift, whole) in [(0, "Zm9vYmFyYmF6cXV4"), (1, "eGZvb2JhcmJhenF1eA=="), (2, "eHhmb29iYXJiYXpxdXg=")] {
            let core = String::from_utf8(base64_core(b"foobarbazqux", shift)).unwrap();
            assert!(core.len() >= 14 && whole.contains(&core), "shift {shift}: {core} in {whole}");
        }
    }

    #[test]
    fn zeros_and_repeats_are_no_patterns() {
        let mut patterns = Patterns::default();
        patterns.add_vector(0, &[0.0; 64]);
        patterns.add_vector(1, &[0.5; 64]);
        assert!(patterns.patterns.is_empty(), "{:?}", patterns.forms);
    }

    #[test]
    fn a_unit_vector_adds_no_second_set() {
        let mut patterns = Patterns::default();
        patterns.add_vector(0, &[0.6, 0.8]);
        assert!(patterns.forms.iter().all(|form| !form.starts_with("unit")));
    }
}
