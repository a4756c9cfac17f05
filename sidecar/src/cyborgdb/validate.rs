//! pydantic's rules for a body, and FastAPI's 422 for one that breaks them.
//!
//! Lax mode, as the original runs it: numeric strings count as numbers, `"yes"` as true, unknown members are
//! ignored. Everything wrong is noted, not only the first; a 422 repeats what was wrong without any key
//! ([`echo`](super::echo)).

use std::borrow::Cow;

use sealvec_core::json::{Json, Kind};

use super::echo::{echo, is_secret_member, write_json_string, write_string};

/// One step to the place of a problem.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// A member.
    Name(Cow<'a, str>),
    /// An element, counted from 0.
    Place(usize),
}

/// What is wrong at one place.
struct Problem<'a> {
    kind: &'static str,
    message: Cow<'static, str>,
    loc: Vec<Step<'a>>,
    input: Input<'a>,
    /// JSON of `ctx`.
    context: Option<&'static str>,
}

enum Input<'a> {
    Json(Json<'a>),
    /// A body that was read as no JSON.
    Text(&'a str),
    Hidden,
    Null,
}

/// Problems that one answer lists; a flat vector of 16,000 numbers where rows belong is 16,000 of them.
const PROBLEMS_MAX: usize = 1_000;

/// A 422's body.
#[derive(Debug)]
pub struct Refusal(pub String);

/// Reads values, notes what is wrong with them, and says so in the end.
#[derive(Default)]
pub struct Checker<'a> {
    loc: Vec<Step<'a>>,
    problems: Vec<Problem<'a>>,
}

impl<'a> Checker<'a> {
    /// At the top of a body.
    pub fn of_body() -> Self {
        Self { loc: vec![Step::Name("body".into())], problems: Vec::new() }
    }

    /// `value` if nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Refusal> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.refusal()),
        }
    }

    /// Whether nothing was wrong so far.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Notes a problem with `value` here.
    pub fn note(&mut self, kind: &'static str, message: impl Into<Cow<'static, str>>, value: Json<'a>) {
        self.note_with(kind, message, value, None);
    }

    /// As [`note`](Self::note), with a context.
    pub fn note_with(
        &mut self,
        kind: &'static str,
        message: impl Into<Cow<'static, str>>,
        value: Json<'a>,
        context: Option<&'static str>,
    ) {
        let secret = self.loc.iter().any(|step| matches!(step, Step::Name(name) if is_secret_member(name)));
        let input = if secret { Input::Hidden } else { Input::Json(value) };
        self.push(kind, message.into(), input, context);
    }

    fn push(
        &mut self,
        kind: &'static str,
        message: Cow<'static, str>,
        input: Input<'a>,
        context: Option<&'static str>,
    ) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { kind, message, loc: self.loc.clone(), input, context });
        }
    }

    /// Runs `read` one step deeper.
    pub fn inside<T>(&mut self, step: Step<'a>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.loc.push(step);
        let value = read(self);
        self.loc.pop();
        value
    }

    /// A string.
    pub fn string(&mut self, value: Json<'a>) -> Option<Cow<'a, str>> {
        let string = value.string();
        if string.is_none() {
            self.note("string_type", "Input should be a valid string", value);
        }
        string
    }

    /// A whole number; one beyond 64 bits comes as the nearest that is not.
    pub fn integer(&mut self, value: Json<'a>) -> Option<i64> {
        match value.kind() {
            Kind::Number => match whole(value.text()) {
                Whole::Number(number) => Some(number),
                Whole::Fraction => {
                    let message = "Input should be a valid integer, got a number with a fractional part";
                    self.note("int_from_float", message, value);
                    None
                }
                Whole::Beyond => {
                    self.note("finite_number", "Input should be a finite number", value);
                    None
                }
            },
            Kind::Boolean => Some(i64::from(value.boolean() == Some(true))),
            Kind::String => {
                let text = value.string().unwrap_or_default();
                let number = integer_of_text(&text);
                if number.is_none() {
                    let message = "Input should be a valid integer, unable to parse string as an integer";
                    self.note("int_parsing", message, value);
                }
                number
            }
            _ => {
                self.note("int_type", "Input should be a valid integer", value);
                None
            }
        }
    }

    /// A number; infinite if no float holds it.
    pub fn number(&mut self, value: Json<'a>) -> Option<f64> {
        match value.kind() {
            Kind::Number => value.text().parse().ok(),
            Kind::Boolean => Some(f64::from(u8::from(value.boolean() == Some(true)))),
            Kind::String => {
                let number = number_of_text(&value.string().unwrap_or_default());
                if number.is_none() {
                    let message = "Input should be a valid number, unable to parse string as a number";
                    self.note("float_parsing", message, value);
                }
                number
            }
            _ => {
                self.note("float_type", "Input should be a valid number", value);
                None
            }
        }
    }

    /// True or false.
    pub fn boolean(&mut self, value: Json<'a>) -> Option<bool> {
        let read = match value.kind() {
            Kind::Boolean => return value.boolean(),
            Kind::Number => match value.text().parse::<f64>() {
                Ok(0.0) => Some(false),
                Ok(1.0) => Some(true),
                _ => None,
            },
            Kind::String => match value.string().unwrap_or_default().to_ascii_lowercase().as_str() {
                "1" | "true" | "t" | "yes" | "y" | "on" => Some(true),
                "0" | "false" | "f" | "no" | "n" | "off" => Some(false),
                _ => None,
            },
            _ => {
                self.note("bool_type", "Input should be a valid boolean", value);
                return None;
            }
        };
        if read.is_none() {
            self.note("bool_parsing", "Input should be a valid boolean, unable to interpret input", value);
        }
        read
    }

    /// An object, as it came.
    pub fn object(&mut self, value: Json<'a>) -> Option<Json<'a>> {
        if value.kind() == Kind::Object {
            return Some(value);
        }
        self.note("dict_type", "Input should be a valid dictionary", value);
        None
    }

    /// An array, as it came.
    pub fn array(&mut self, value: Json<'a>) -> Option<Json<'a>> {
        if value.kind() == Kind::Array {
            return Some(value);
        }
        self.note("list_type", "Input should be a valid list", value);
        None
    }

    /// An array of one kind of value. Elements with a problem are left out; nobody sees the rest then.
    pub fn list<T>(&mut self, value: Json<'a>, read: impl Fn(&mut Self, Json<'a>) -> Option<T>) -> Option<Vec<T>> {
        let array = self.array(value)?;
        let mut list = Vec::new();
        for (place, element) in array.elements().enumerate() {
            list.extend(self.inside(Step::Place(place), |c| read(c, element)));
        }
        Some(list)
    }

    /// Strings.
    pub fn strings(&mut self, value: Json<'a>) -> Option<Vec<Cow<'a, str>>> {
        self.list(value, Self::string)
    }

    /// Numbers, as float32 little-endian bytes behind `out`; how many there were.
    pub fn floats(&mut self, value: Json<'a>, out: &mut Vec<u8>) -> Option<usize> {
        let array = self.array(value)?;
        let start = out.len();
        if let Some(count) = plain_floats(array.text(), out) {
            return Some(count);
        }
        out.truncate(start);
        let mut count = 0;
        for element in array.elements() {
            let number = self.inside(Step::Place(count), |c| c.number(element));
            out.extend_from_slice(&float32(number.unwrap_or_default()));
            count += 1;
        }
        Some(count)
    }

    /// A model: an object whose members are read by name.
    pub fn fields(&mut self, value: Json<'a>) -> Option<Fields<'a>> {
        if value.kind() == Kind::Object {
            let members = value.members().map(|(name, value)| (name.string(), value)).collect();
            return Some(Fields { whole: value, members });
        }
        self.note("model_attributes_type", NO_OBJECT, value);
        None
    }

    fn refusal(self) -> Refusal {
        let mut out = String::from("{\"status_code\":422,\"detail\":[");
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            problem.write(&mut out);
        }
        out.push_str("]}");
        Refusal(out)
    }
}

const NO_OBJECT: &str = "Input should be a valid dictionary or object to extract fields from";

impl Refusal {
    fn of(loc: Vec<Step<'_>>, kind: &'static str, message: &'static str, input: Input<'_>) -> Self {
        let problem = Problem { kind, message: message.into(), loc, input, context: None };
        Checker { loc: Vec::new(), problems: vec![problem] }.refusal()
    }

    /// No body where one belongs.
    pub fn missing_body() -> Self {
        Self::of(vec![Step::Name("body".into())], "missing", "Field required", Input::Null)
    }

    /// A body that is not said to be JSON.
    pub fn other_type(text: &str) -> Self {
        Self::of(vec![Step::Name("body".into())], "model_attributes_type", NO_OBJECT, Input::Text(text))
    }

    /// A body that is no JSON.
    pub fn syntax(place: usize, words: &str) -> Self {
        let mut out = format!(
            "{{\"status_code\":422,\"detail\":[{{\"type\":\"json_invalid\",\"loc\":[\"body\",{place}],\
             \"msg\":\"JSON decode error\",\"input\":{{}},\"ctx\":{{\"error\":"
        );
        write_json_string(words, &mut out);
        out.push_str("}}]}");
        Self(out)
    }
}

impl Problem<'_> {
    fn write(&self, out: &mut String) {
        out.push_str("{\"type\":\"");
        out.push_str(self.kind);
        out.push_str("\",\"loc\":[");
        for (place, step) in self.loc.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            match step {
                Step::Name(name) => write_string(name, out),
                Step::Place(place) => out.push_str(&place.to_string()),
            }
        }
        out.push_str("],\"msg\":");
        write_json_string(&self.message, out);
        match &self.input {
            Input::Json(value) => {
                out.push_str(",\"input\":");
                echo(*value, out);
            }
            Input::Text(text) => {
                out.push_str(",\"input\":");
                write_string(text, out);
            }
            Input::Hidden => out.push_str(",\"input\":\"***\""),
            Input::Null => out.push_str(",\"input\":null"),
        }
        if let Some(context) = self.context {
            out.push_str(",\"ctx\":");
            out.push_str(context);
        }
        out.push('}');
    }
}

/// The members of a model.
pub struct Fields<'a> {
    whole: Json<'a>,
    members: Vec<(Cow<'a, str>, Json<'a>)>,
}

impl<'a> Fields<'a> {
    /// The value of a member, the last one if it is repeated.
    pub fn find(&self, name: &str) -> Option<Json<'a>> {
        self.members.iter().rev().find(|(found, _)| found == name).map(|(_, value)| *value)
    }

    /// A member that must be there.
    pub fn required<T>(
        &self,
        c: &mut Checker<'a>,
        name: &'static str,
        read: impl FnOnce(&mut Checker<'a>, Json<'a>) -> Option<T>,
    ) -> Option<T> {
        c.inside(Step::Name(name.into()), |c| match self.find(name) {
            Some(value) => read(c, value),
            None => {
                c.note("missing", "Field required", self.whole);
                None
            }
        })
    }

    /// A member that may be absent or null.
    pub fn optional<T>(
        &self,
        c: &mut Checker<'a>,
        name: &'static str,
        read: impl FnOnce(&mut Checker<'a>, Json<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.find(name).filter(|value| value.kind() != Kind::Null)?;
        c.inside(Step::Name(name.into()), |c| read(c, value))
    }

    /// A member that may be absent and not null.
    pub fn defaulted<T>(
        &self,
        c: &mut Checker<'a>,
        name: &'static str,
        read: impl FnOnce(&mut Checker<'a>, Json<'a>) -> Option<T>,
    ) -> Option<T> {
        let value = self.find(name)?;
        c.inside(Step::Name(name.into()), |c| read(c, value))
    }

    /// Notes each member that is none of `known`.
    pub fn forbid_others(&self, c: &mut Checker<'a>, known: &[&str]) {
        for (name, value) in &self.members {
            if !known.contains(&&**name) {
                c.inside(Step::Name(name.clone()), |c| {
                    c.note("extra_forbidden", "Extra inputs are not permitted", *value);
                });
            }
        }
    }
}

/// The numbers of an array that holds nothing but numbers: a vector is most of a body, so it is read in one pass.
/// `text` is an array of JSON.
fn plain_floats(text: &str, out: &mut Vec<u8>) -> Option<usize> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    if inside.trim_ascii().is_empty() {
        return Some(0);
    }
    let mut count = 0;
    for number in inside.split(',') {
        // Strings and brackets are no numbers, and neither are the words that only Rust takes for some.
        let number = number.trim_ascii();
        if !number.ends_with(|last: char| last.is_ascii_digit()) {
            return None;
        }
        out.extend_from_slice(&float32(number.parse().ok()?));
        count += 1;
    }
    Some(count)
}

/// Rounded twice, text to float64 to float32, because the original does.
fn float32(number: f64) -> [u8; 4] {
    (number as f32).to_le_bytes()
}

enum Whole {
    Number(i64),
    Fraction,
    Beyond,
}

fn whole(text: &str) -> Whole {
    if let Ok(number) = text.parse::<i64>() {
        return Whole::Number(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_infinite() => Whole::Beyond,
        // Saturates, which is what the ranges of our own make of it anyway.
        Ok(number) if number.fract() == 0.0 => Whole::Number(number as i64),
        _ => Whole::Fraction,
    }
}

/// Python's `int("…")` as pydantic has it: white space, one underscore between digits, and a fraction of zeros.
fn integer_of_text(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (digits, zeros) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = digits.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    if !plain || zeros.is_empty() || !zeros.bytes().all(|b| b == b'0') {
        return None;
    }
    let magnitude = digits.replace('_', "").parse::<i64>().unwrap_or(i64::MAX);
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

/// Python's `float("…")`: white space, and single underscores between digits.
fn number_of_text(text: &str) -> Option<f64> {
    let text = text.trim();
    let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let stray = text.match_indices('_').any(|(at, _)| at == 0 || !digit(at - 1) || !digit(at + 1));
    // Rust takes Python's words for what is no number, and nothing that Python does not take.
    if stray { None } else { text.replace('_', "").parse().ok() }
}
