//! `#[derive(FailureKind)]`: what turns a value into a `Failure`, and a `Failure` into the value again.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Ident, LitStr, Result, Token};

use crate::documented::first_paragraph;

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    syn::parse2(item)
        .and_then(|input| implementation(&input))
        .unwrap_or_else(Error::into_compile_error)
}

/// One kind of failure: a variant of an enum, or a struct.
struct Case<'a> {
    kind: String,
    /// How a value of it is written: `Payment::Declined`, or `Declined`.
    constructor: TokenStream,
    fields: &'a Fields,
    message: TokenStream,
    retryable: bool,
}

fn implementation(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        let message = "a failure kind has no parameters: it is read back from JSON, which could not choose them";
        return Err(Error::new(input.generics.span(), message));
    }
    let name = &input.ident;
    let cases = match &input.data {
        Data::Enum(data) => {
            let cases = data.variants.iter().map(|variant| {
                let variant_name = &variant.ident;
                let constructor = quote!(#name::#variant_name);
                Case::read(variant_name, constructor, &variant.attrs, &variant.fields)
            });
            cases.collect::<Result<Vec<_>>>()?
        }
        Data::Struct(data) => {
            vec![Case::read(name, quote!(#name), &input.attrs, &data.fields)?]
        }
        Data::Union(data) => {
            let message = "a union cannot be a failure kind: make it an enum";
            return Err(Error::new(data.union_token.span, message));
        }
    };
    check_kinds(input, &cases)?;
    let (into, from): (Vec<_>, Vec<_>) = cases
        .iter()
        .map(|case| (case.arm_into(), case.arm_from()))
        .unzip();
    Ok(quote! {
        #[automatically_derived]
        impl ::perennial_sdk::FailureKind for #name {
            fn from_failure(failure: &::perennial_sdk::Failure) -> ::core::option::Option<Self> {
                match failure.kind() {
                    #(#from)*
                    _ => ::core::option::Option::None,
                }
            }
        }

        #[automatically_derived]
        impl ::core::convert::From<#name> for ::perennial_sdk::Failure {
            fn from(value: #name) -> Self {
                match value { #(#into)* }
            }
        }
    })
}

/// Two variants of one kind could not be told apart again.
fn check_kinds(input: &DeriveInput, cases: &[Case<'_>]) -> Result<()> {
    for (at, case) in cases.iter().enumerate() {
        if cases[..at].iter().any(|before| before.kind == case.kind) {
            let message = format!(
                "two variants have the kind {:?}, and could not be told apart: give one another with `#[failure(kind = \"…\")]`",
                case.kind
            );
            return Err(Error::new(input.ident.span(), message));
        }
    }
    if cases.is_empty() {
        let message = "an enum without variants is no failure kind: it has no value";
        return Err(Error::new(input.ident.span(), message));
    }
    Ok(())
}

impl<'a> Case<'a> {
    fn read(
        name: &Ident,
        constructor: TokenStream,
        attributes: &[Attribute],
        fields: &'a Fields,
    ) -> Result<Self> {
        let mut options = Options::default();
        for attribute in attributes
            .iter()
            .filter(|found| found.path().is_ident("failure"))
        {
            options.take(attribute.parse_args()?)?;
        }
        let stray = fields
            .iter()
            .flat_map(|field| &field.attrs)
            .find(|found| found.path().is_ident("failure"));
        if let Some(stray) = stray {
            let message = "a field has no `failure` options: they belong before the variant";
            return Err(Error::new(stray.span(), message));
        }
        let kind = match &options.kind {
            Some(kind) if kind.value().is_empty() => {
                return Err(Error::new(kind.span(), "an empty kind: code matches on it"));
            }
            Some(kind) => kind.value(),
            None => name.to_string().trim_start_matches("r#").to_owned(),
        };
        let message = match (&options.message, first_paragraph(attributes)) {
            (Some(message), _) => {
                let format = with_named_positions(message, fields);
                quote!(::std::format!(#format))
            }
            (None, Some(text)) => quote!(#text),
            (None, None) => quote!(#kind),
        };
        Ok(Self {
            kind,
            constructor,
            fields,
            message,
            retryable: !options.not_retryable,
        })
    }

    /// The arm that makes a failure.
    fn arm_into(&self) -> TokenStream {
        let Self {
            kind,
            constructor,
            message,
            ..
        } = self;
        let pattern = self.pattern();
        let not_retryable = (!self.retryable).then(|| quote!(.not_retryable()));
        let details = self.has_details().then(|| {
            let (details, value) = (self.details(), self.value_of_details());
            quote!(.with_details(&{ #details #value }))
        });
        quote! {
            #constructor #pattern => ::perennial_sdk::Failure::new(#kind, #message)#not_retryable #details,
        }
    }

    /// The arm that reads a failure.
    fn arm_from(&self) -> TokenStream {
        let Self {
            kind, constructor, ..
        } = self;
        let pattern = self.pattern();
        if !self.has_details() {
            return quote!(#kind => ::core::option::Option::Some(#constructor #pattern),);
        }
        let details = self.details();
        let read = self.value_of_details();
        quote! {
            #kind => {
                #details
                let #read = failure.details()?;
                ::core::option::Option::Some(#constructor #pattern)
            }
        }
    }

    fn has_details(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The fields, as a pattern and as an expression.
    fn pattern(&self) -> TokenStream {
        let names = self.names();
        match self.fields {
            Fields::Named(_) => quote!({ #(#names),* }),
            Fields::Unnamed(_) => quote!((#(#names),*)),
            Fields::Unit => quote!(),
        }
    }

    fn value_of_details(&self) -> TokenStream {
        let pattern = self.pattern();
        quote!(__Details #pattern)
    }

    fn names(&self) -> Vec<Ident> {
        let name = |(at, field): (usize, &Field)| {
            field
                .ident
                .clone()
                .unwrap_or_else(|| format_ident!("__{at}"))
        };
        self.fields.iter().enumerate().map(name).collect()
    }

    /// The type that serde writes and reads.
    fn details(&self) -> TokenStream {
        let fields = self.fields.iter().map(|field| {
            let attributes = field
                .attrs
                .iter()
                .filter(|found| found.path().is_ident("serde"));
            let (name, colon, of) = (&field.ident, &field.colon_token, &field.ty);
            quote!(#(#attributes)* #name #colon #of)
        });
        let fields = match self.fields {
            Fields::Named(_) => quote!({ #(#fields),* }),
            Fields::Unnamed(_) => quote!((#(#fields),*);),
            Fields::Unit => quote!(;),
        };
        quote! {
            #[derive(::perennial_sdk::export::serde::Serialize, ::perennial_sdk::export::serde::Deserialize)]
            #[serde(crate = "::perennial_sdk::export::serde")]
            struct __Details #fields
        }
    }
}

/// A format string in which `{0}` names the first field of a tuple.
fn with_named_positions(message: &LitStr, fields: &Fields) -> Literal {
    let text = message.value();
    let mut rewritten = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        rewritten.push(letter);
        if letter != '{' {
            continue;
        }
        match letters.peek() {
            Some('{') => rewritten.extend(letters.next()),
            Some('0'..='9') if matches!(fields, Fields::Unnamed(_)) => rewritten.push_str("__"),
            _ => {}
        }
    }
    let mut literal = Literal::string(&rewritten);
    literal.set_span(message.span());
    literal
}

/// `#[failure("…", kind = "…", not_retryable)]`.
#[derive(Default)]
struct Options {
    message: Option<LitStr>,
    kind: Option<LitStr>,
    not_retryable: bool,
}

impl Options {
    /// Adds those of a further attribute.
    fn take(&mut self, more: Self) -> Result<()> {
        let twice = |one: &Option<LitStr>, other: &Option<LitStr>| match (one, other) {
            (Some(_), Some(second)) => Err(Error::new(
                second.span(),
                "it is given twice: leave one out",
            )),
            _ => Ok(()),
        };
        twice(&self.message, &more.message)?;
        twice(&self.kind, &more.kind)?;
        self.message = self.message.take().or(more.message);
        self.kind = self.kind.take().or(more.kind);
        self.not_retryable |= more.not_retryable;
        Ok(())
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            if input.peek(LitStr) {
                options.take(Self {
                    message: Some(input.parse()?),
                    ..Self::default()
                })?;
            } else {
                let key: Ident = input.parse()?;
                match key.to_string().as_str() {
                    "not_retryable" => options.not_retryable = true,
                    "kind" => {
                        input.parse::<Token![=]>()?;
                        options.take(Self {
                            kind: Some(input.parse()?),
                            ..Self::default()
                        })?;
                    }
                    _ => {
                        let message = "there is no such option: there are a message, `kind = \"…\"` and `not_retryable`";
                        return Err(Error::new(key.span(), message));
                    }
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}
