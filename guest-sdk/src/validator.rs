//! Validators: functions that judge a request by its input alone.

use crate::Failure;
use crate::mailbox::is_same_name;

/// The validator of one request of an orchestration. The macros make them of `validate(AddItem = check_item)`.
#[derive(Clone, Copy, Debug)]
pub struct Validator {
    /// The name of the request.
    pub request: &'static str,
    /// Judges its input.
    pub check: fn(Option<&str>) -> Result<(), Failure>,
}

/// Judges a request, if there is a validator for it.
pub(crate) fn judge(
    validators: &[Validator],
    request: &str,
    input: Option<&str>,
) -> Result<(), Failure> {
    let mut validators = validators.iter();
    let found = validators.find(|validator| is_same_name(validator.request, request));
    found.map_or(Ok(()), |validator| (validator.check)(input))
}
