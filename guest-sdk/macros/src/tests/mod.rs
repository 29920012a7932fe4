//! What the macros say of faults that the syntax shows, and what they read.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse_quote;

use crate::documented::first_paragraph;
use crate::options::{Options, upper_camel_case};
use crate::signature::Role::{self, Activity, Orchestration};
use crate::{annotated, failure_kind};

/// The messages of the errors in what a macro made.
fn errors(made: &TokenStream) -> Vec<String> {
    let text = made.to_string();
    let parts = text.split("compile_error ! {").skip(1);
    let message = |part: &str| {
        let literal = part.split('}').next().unwrap().trim();
        let literal: syn::LitStr = syn::parse_str(literal).unwrap();
        literal.value()
    };
    parts.map(message).collect()
}

#[track_caller]
fn check(role: Role, options: TokenStream, function: TokenStream, fault: &str) {
    let made = annotated::expand(role, options, function);
    assert_eq!(errors(&made), [fault], "{made}");
}

#[test]
fn a_signature_that_does_not_fit_is_told_in_one_line() {
    let none = TokenStream::new;
    check(
        Orchestration,
        none(),
        quote!(
            fn pay(ctx: Context) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an orchestration is an `async fn`: write `async fn pay`",
    );
    check(
        Activity,
        none(),
        quote!(
            async fn charge() -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an activity is not `async`: write `fn charge`",
    );
    check(
        Orchestration,
        none(),
        quote!(
            async fn pay(ctx: Context) {}
        ),
        "an orchestration returns a `Result`: write `-> Result<(), Failure>` if it has nothing to return",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge(a: u32, b: u32) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an activity has one input: put several values into a struct or a tuple",
    );
    check(
        Orchestration,
        none(),
        quote!(
            async fn pay(ctx: Context, a: u32, b: u32) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an orchestration has one input: put several values into a struct or a tuple",
    );
    check(
        Orchestration,
        none(),
        quote!(
            async fn pay() -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an orchestration needs its context: write `async fn pay(ctx: Context)`",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge(ctx: perennial_sdk::Context) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an activity has no `Context`: take an `ActivityContext`, or none",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge(name: &str) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "the input is borrowed, and is read from JSON: take an owned value, such as a `String`",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge(name: impl Into<String>) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "the input needs a type with a name, not `impl`: serde reads it",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge() -> Result<impl Serialize, Failure> {
                Ok(())
            }
        ),
        "the output needs a type with a name, not `impl`: serde reads it back",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge<T>(of: T) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an activity has no type parameters: the host could not choose them",
    );
    check(
        Activity,
        none(),
        quote!(
            fn charge(&self) -> Result<(), Failure> {
                Ok(())
            }
        ),
        "an activity is a function of its own, not a method: leave `self` out",
    );
}

#[test]
fn options_that_do_not_fit_are_told_in_one_line() {
    let activity = || {
        quote!(
            fn charge() -> Result<(), Failure> {
                Ok(())
            }
        )
    };
    for (options, fault) in [
        (
            quote!(version = "2"),
            "an activity has no such option: it has `name`, `description` and `input_schema`",
        ),
        (
            quote!(name = ""),
            "an empty name: give an activity a name that it can be called by",
        ),
        (
            quote!(name = "A", name = "B"),
            "`name` is given twice: leave one out",
        ),
        (
            quote!(input_schema),
            "`input_schema` without a value is the schema of the type of the input, and this function takes none",
        ),
        (
            quote!(input_schema, input_schema = "{}"),
            "`input_schema` is given twice: leave one out",
        ),
    ] {
        check(Activity, options, activity(), fault);
    }
    let orchestration = || {
        quote!(
            async fn cart(ctx: Context) -> Result<(), Failure> {
                Ok(())
            }
        )
    };
    for (options, fault) in [
        (
            quote!(validators = 1),
            "an orchestration has no such option: it has `name`, `version`, `description`, `input_schema` and `validate`",
        ),
        (
            quote!(validate(1 = check)),
            "the name of a request and its validator: `AddItem = check_item`",
        ),
        (quote!(validate(AddItem)), "expected `=`"),
        (quote!(validate = check), "expected parentheses"),
        (
            quote!(validate(A = check), validate(B = check)),
            "`validate` is given twice: leave one out",
        ),
    ] {
        check(Orchestration, options, orchestration(), fault);
    }
    check(
        Activity,
        quote!(validate(A = check)),
        activity(),
        "an activity has no such option: it has `name`, `description` and `input_schema`",
    );
}

#[test]
fn what_is_no_function_is_kept_beside_the_error() {
    let made = annotated::expand(
        Activity,
        TokenStream::new(),
        quote!(
            struct Charge;
        ),
    );
    assert_eq!(errors(&made), ["expected `fn`"]);
    assert!(made.to_string().starts_with("struct Charge ;"), "{made}");
}

#[test]
fn a_name_is_that_of_the_function_in_upper_camel_case() {
    for (function, name) in [
        ("pay", "Pay"),
        ("say_hello", "SayHello"),
        ("step_2", "Step2"),
        ("_kept", "Kept"),
        ("a__b_", "AB"),
        ("sendHTTP_now", "SendHTTPNow"),
        ("äußern", "Äußern"),
    ] {
        assert_eq!(upper_camel_case(function), name);
    }
    let options = Options::parse(Orchestration, TokenStream::new()).unwrap();
    assert_eq!(options.name(&parse_quote!(r#type)).value(), "Type");
    let options = Options::parse(Orchestration, quote!(name = "pay.all")).unwrap();
    assert_eq!(options.name(&parse_quote!(pay)).value(), "pay.all");
}

#[test]
fn a_description_is_the_first_paragraph_on_one_line() {
    let first = |item: syn::ItemFn| first_paragraph(&item.attrs);
    let text = first(parse_quote! {
        ///
        /// Charges a card,
        ///   and sends a receipt.
        ///
        /// The rest.
        #[inline]
        fn pay() {}
    });
    assert_eq!(text.unwrap(), "Charges a card, and sends a receipt.");
    let block = first(parse_quote! {
        /**
         * Charges a card,
         * at once.
         *
         * The rest.
         */
        fn pay() {}
    });
    assert_eq!(block.unwrap(), "Charges a card, at once.");
    assert_eq!(
        first(parse_quote!(
            fn pay() {}
        )),
        None
    );
}

#[test]
fn attributes_within_a_body_stay_first() {
    let made = annotated::expand(
        Activity,
        TokenStream::new(),
        quote!(
            fn charge() -> Result<(), Failure> {
                #![allow(unused)]
                Ok(())
            }
        ),
    );
    let made = made.to_string();
    assert!(
        made.contains("{ # ! [allow (unused)] # [cfg (all ("),
        "{made}"
    );
}

#[test]
fn a_failure_kind_that_does_not_fit_is_told_in_one_line() {
    for (item, fault) in [
        (
            quote!(
                enum E<T> {
                    A(T),
                }
            ),
            "a failure kind has no parameters: it is read back from JSON, which could not choose them",
        ),
        (
            quote!(
                enum E {
                    A,
                    #[failure(kind = "A")]
                    B,
                }
            ),
            "two variants have the kind \"A\", and could not be told apart: give one another with `#[failure(kind = \"…\")]`",
        ),
        (
            quote!(
                enum E {}
            ),
            "an enum without variants is no failure kind: it has no value",
        ),
        (
            quote!(union E { a: u8 }),
            "a union cannot be a failure kind: make it an enum",
        ),
        (
            quote!(
                enum E {
                    #[failure("a", "b")]
                    A,
                }
            ),
            "it is given twice: leave one out",
        ),
        (
            quote!(
                enum E {
                    #[failure(kind = "")]
                    A,
                }
            ),
            "an empty kind: code matches on it",
        ),
        (
            quote!(
                enum E {
                    #[failure(fatal)]
                    A,
                }
            ),
            "there is no such option: there are a message, `kind = \"…\"` and `not_retryable`",
        ),
        (
            quote!(
                enum E {
                    A {
                        #[failure("a")]
                        b: u8,
                    },
                }
            ),
            "a field has no `failure` options: they belong before the variant",
        ),
    ] {
        assert_eq!(errors(&failure_kind::expand(item)), [fault]);
    }
}
