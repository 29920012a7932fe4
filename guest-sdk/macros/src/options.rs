//! The options of `#[orchestration(…)]` and `#[activity(…)]`.

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Ident, LitStr, Result, Token};

use crate::signature::Role;

/// What was given in the parentheses of an attribute.
#[derive(Default)]
pub(crate) struct Options {
    name: Option<LitStr>,
    pub(crate) version: Option<Expr>,
    pub(crate) description: Option<Expr>,
    pub(crate) input_schema: Option<Schema>,
    validators: Option<Vec<Validator>>,
}

/// The JSON Schema of an input.
pub(crate) enum Schema {
    /// `input_schema = SCHEMA`.
    Given(Expr),
    /// `input_schema` alone: that of the type, which stands at this place.
    OfType(Span),
}

/// `AddItem = check_item`: the validator of a request. A name that is no identifier stands in quotes.
pub(crate) struct Validator {
    pub(crate) request: LitStr,
    pub(crate) check: Expr,
}

impl Parse for Validator {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let request = if input.peek(LitStr) {
            input.parse()?
        } else {
            let name: Ident = input.parse().map_err(|error| {
                let message = "the name of a request and its validator: `AddItem = check_item`";
                Error::new(error.span(), message)
            })?;
            LitStr::new(&name.unraw().to_string(), name.span())
        };
        input.parse::<Token![=]>()?;
        let check = input.parse()?;
        Ok(Self { request, check })
    }
}

impl Options {
    pub(crate) fn parse(role: Role, tokens: TokenStream) -> Result<Self> {
        let mut options = Self::default();
        let parser = syn::meta::parser(|meta| {
            let key = meta
                .path
                .get_ident()
                .map(ToString::to_string)
                .unwrap_or_default();
            let given_twice = match key.as_str() {
                "name" => options.name.replace(meta.value()?.parse()?).is_some(),
                "version" if role == Role::Orchestration => {
                    options.version.replace(meta.value()?.parse()?).is_some()
                }
                "description" => options
                    .description
                    .replace(meta.value()?.parse()?)
                    .is_some(),
                "input_schema" => {
                    let schema = if meta.input.peek(Token![=]) {
                        Schema::Given(meta.value()?.parse()?)
                    } else {
                        Schema::OfType(meta.path.span())
                    };
                    options.input_schema.replace(schema).is_some()
                }
                "validate" if role == Role::Orchestration => {
                    let listed;
                    syn::parenthesized!(listed in meta.input);
                    let listed: Punctuated<Validator, Token![,]> =
                        Punctuated::parse_terminated(&listed)?;
                    let listed = listed.into_iter().collect();
                    options.validators.replace(listed).is_some()
                }
                _ => {
                    return Err(meta.error(format!(
                        "{} has no such option: it has {}",
                        role.with_article(),
                        role.options()
                    )));
                }
            };
            if given_twice {
                return Err(meta.error(format!("`{key}` is given twice: leave one out")));
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        if let Some(name) = &options.name
            && name.value().trim().is_empty()
        {
            let message = format!(
                "an empty name: give {} a name that it can be called by",
                role.with_article()
            );
            return Err(Error::new(name.span(), message));
        }
        Ok(options)
    }

    pub(crate) fn validators(&self) -> &[Validator] {
        self.validators.as_deref().unwrap_or_default()
    }

    /// The name that was given, or that of the function in UpperCamelCase.
    pub(crate) fn name(&self, function: &Ident) -> LitStr {
        match &self.name {
            Some(name) => name.clone(),
            None => LitStr::new(
                &upper_camel_case(&function.unraw().to_string()),
                function.span(),
            ),
        }
    }
}

/// `say_hello` as `SayHello`: the parts between underscores, each with a capital first letter and otherwise as it is.
pub(crate) fn upper_camel_case(name: &str) -> String {
    let capitalised = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_uppercase().to_string());
        first.unwrap_or_default() + letters.as_str()
    };
    name.split('_').map(capitalised).collect()
}
