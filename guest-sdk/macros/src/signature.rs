//! What the signature of an annotated function says, and what is wrong with it.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, FnArg, Result, ReturnType, Signature, Type, Visibility};

/// What a function is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Orchestration,
    Activity,
}

impl Role {
    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Orchestration => "an orchestration",
            Self::Activity => "an activity",
        }
    }

    /// The SDK's type of its definition.
    pub(crate) fn definition(self) -> Ident {
        let name = match self {
            Self::Orchestration => "Orchestration",
            Self::Activity => "Activity",
        };
        Ident::new(name, Span::call_site())
    }

    /// The keys of the attribute, for messages.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::Orchestration => {
                "`name`, `version`, `description`, `input_schema` and `validate`"
            }
            Self::Activity => "`name`, `description` and `input_schema`",
        }
    }
}

/// A function as it is written. Its body is not looked into.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attributes = Attribute::parse_outer(input)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        let body = input.parse()?;
        Ok(Self {
            attributes,
            visibility,
            signature,
            body,
        })
    }
}

/// The types of a function that can be exported.
pub(crate) struct Types<'a> {
    pub(crate) context: Option<&'a Type>,
    pub(crate) input: Option<&'a Type>,
    pub(crate) output: &'a Type,
}

/// Reads a signature.
///
/// The errors are those that the syntax shows. What only types show is left to the traits of the SDK.
pub(crate) fn read(role: Role, signature: &Signature) -> Result<Types<'_>> {
    let name = &signature.ident;
    let what = role.with_article();
    match (role, &signature.asyncness) {
        (Role::Orchestration, None) => {
            let message = format!("an orchestration is an `async fn`: write `async fn {name}`");
            return Err(Error::new(signature.fn_token.span, message));
        }
        (Role::Activity, Some(asyncness)) => {
            let message = format!("an activity is not `async`: write `fn {name}`");
            return Err(Error::new(asyncness.span, message));
        }
        _ => {}
    }
    if !signature.generics.params.is_empty() {
        let message = format!("{what} has no type parameters: the host could not choose them");
        return Err(Error::new(signature.generics.span(), message));
    }
    let ReturnType::Type(_, output) = &signature.output else {
        let message = format!(
            "{what} returns a `Result`: write `-> Result<(), Failure>` if it has nothing to return"
        );
        return Err(Error::new(name.span(), message));
    };
    let parameters = signature.inputs.iter().map(|input| match input {
        FnArg::Typed(typed) => Ok(&*typed.ty),
        FnArg::Receiver(receiver) => Err(Error::new(
            receiver.span(),
            format!("{what} is a function of its own, not a method: leave `self` out"),
        )),
    });
    let parameters: Vec<&Type> = parameters.collect::<Result<_>>()?;
    let (context, inputs) = match (role, parameters.split_first()) {
        (Role::Orchestration, None) => {
            let message = format!(
                "an orchestration needs its context: write `async fn {name}(ctx: Context)`"
            );
            return Err(Error::new(signature.paren_token.span.join(), message));
        }
        (Role::Activity, Some((first, _))) if is_named(first, "Context") => {
            let message = "an activity has no `Context`: take an `ActivityContext`, or none";
            return Err(Error::new(first.span(), message));
        }
        (Role::Activity, Some((first, _))) if !is_named(first, "ActivityContext") => {
            (None, &parameters[..])
        }
        (_, Some((first, rest))) => (Some(*first), rest),
        (Role::Activity, None) => (None, &[][..]),
    };
    if let Some(second) = inputs.get(1) {
        let message = format!("{what} has one input: put several values into a struct or a tuple");
        return Err(Error::new(second.span(), message));
    }
    let input = inputs.first().copied();
    if let Some(input) = input {
        check_input(input)?;
    }
    if has_impl_trait(output) {
        let message = "the output needs a type with a name, not `impl`: serde reads it back";
        return Err(Error::new(output.span(), message));
    }
    Ok(Types {
        context,
        input,
        output,
    })
}

fn check_input(input: &Type) -> Result<()> {
    if let Type::Reference(_) = input {
        let message =
            "the input is borrowed, and is read from JSON: take an owned value, such as a `String`";
        return Err(Error::new(input.span(), message));
    }
    if has_impl_trait(input) {
        let message = "the input needs a type with a name, not `impl`: serde reads it";
        return Err(Error::new(input.span(), message));
    }
    Ok(())
}

/// Whether the last part of a type's path is this.
fn is_named(of: &Type, name: &str) -> bool {
    let Type::Path(path) = of else { return false };
    path.path
        .segments
        .last()
        .is_some_and(|last| last.ident == name)
}

fn has_impl_trait(of: &Type) -> bool {
    fn within(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == "impl",
            TokenTree::Group(group) => within(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }
    within(of.to_token_stream())
}
