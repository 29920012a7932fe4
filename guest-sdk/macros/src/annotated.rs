//! `#[orchestration]` and `#[activity]`: the function as it is, and beside it a type of the same name that has its definition.
//!
//! A function and a type of one name do not get into each other's way, and are imported and re-exported together. So `export!` finds the
//! definition wherever it finds the function.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Expr, Result};

use crate::documented::first_paragraph;
use crate::options::{Options, Schema, Validator};
use crate::signature::{self, Function, Role};

pub(crate) fn expand(role: Role, options: TokenStream, item: TokenStream) -> TokenStream {
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#item #error);
        }
    };
    match definition(role, options, &function) {
        Ok(definition) => {
            let written = written(&function);
            let beside = beside(role, &function, &definition);
            quote!(#written #beside)
        }
        // With the function and a definition of it, that it is wrong is all that is said.
        Err(error) => {
            let error = error.into_compile_error();
            let stand_in = stand_in(role);
            let beside = beside(role, &function, &stand_in);
            quote!(#item #error #beside)
        }
    }
}

/// The function, in which `println!` and its like also write where the standard library writes nowhere.
fn written(function: &Function) -> TokenStream {
    let Function {
        attributes,
        visibility,
        signature,
        body,
    } = function;
    let (inner, rest) = split_inner_attributes(body.stream());
    let stream = quote! {
        #inner
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        #[allow(unused_imports, reason = "not every function prints")]
        use ::perennial_sdk::{dbg, eprint, eprintln, print, println};
        #rest
    };
    let mut written = Group::new(body.delimiter(), stream);
    written.set_span(body.span());
    quote!(#(#attributes)* #visibility #signature #written)
}

/// The attributes `#![...]` at the beginning of a body, which nothing may precede, and the rest.
fn split_inner_attributes(body: TokenStream) -> (TokenStream, TokenStream) {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let is_punct = |at: usize, wanted: char| match tokens.get(at) {
        Some(TokenTree::Punct(punct)) => punct.as_char() == wanted,
        _ => false,
    };
    let mut end = 0;
    while is_punct(end, '#') && is_punct(end + 1, '!') {
        end += 3;
    }
    let (inner, rest) = tokens.split_at(end.min(tokens.len()));
    (
        inner.iter().cloned().collect(),
        rest.iter().cloned().collect(),
    )
}

/// The type beside the function.
fn beside(role: Role, function: &Function, definition: &TokenStream) -> TokenStream {
    let conditions = function
        .attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let conditions: Vec<&Attribute> = conditions.collect();
    let visibility = &function.visibility;
    let name = &function.signature.ident;
    let type_of = role.definition();
    // No trait, and with the place of the function: so the compiler says of one that no `export!` lists that it is never used.
    quote_spanned! {name.span()=>
        #(#conditions)*
        #[doc(hidden)]
        #[allow(non_camel_case_types, unreachable_pub, reason = "it is called as the function, and is as visible")]
        #visibility enum #name {}

        #(#conditions)*
        #[allow(unreachable_pub, reason = "it is as visible as the function")]
        impl #name {
            #[doc(hidden)]
            #visibility const DEFINITION: ::perennial_sdk::#type_of = #definition;
        }
    }
}

fn definition(role: Role, options: TokenStream, function: &Function) -> Result<TokenStream> {
    let options = Options::parse(role, options)?;
    let types = signature::read(role, &function.signature)?;
    let function_name = &function.signature.ident;
    let name = options.name(function_name);
    let output = types.output;
    // A function that takes no input takes any.
    let any = quote!(::perennial_sdk::export::AnyInput);
    let input = types.input.map_or(any, |input| quote!(#input));
    // Names that no function of the author's can have.
    let [context, value] = ["context", "input"].map(|name| Ident::new(name, Span::mixed_site()));
    // What the compiler says of this call, such as that something is no `Result`, is about the output. It is no code of the author's,
    // which lints of style are about.
    let place = output.span().resolved_at(Span::mixed_site());
    let call = match (types.context, types.input) {
        (Some(_), Some(_)) => {
            quote_spanned!(place=> |#context, #value| #function_name(#context, #value))
        }
        (Some(_), None) => quote_spanned!(place=> |#context, _| #function_name(#context)),
        (None, Some(_)) => quote_spanned!(place=> |_, #value| #function_name(#value)),
        (None, None) => quote_spanned!(place=> |_, _| #function_name()),
    };
    let version = (role == Role::Orchestration).then(|| {
        let version = optional(options.version.as_ref());
        quote!(version: #version,)
    });
    let description = match (&options.description, first_paragraph(&function.attributes)) {
        (None, Some(text)) => quote!(::core::option::Option::Some(#text)),
        (given, _) => optional(given.as_ref()),
    };
    let schema = schema(options.input_schema.as_ref(), types.input)?;
    let validators = validators(options.validators());
    let type_of = role.definition();
    let run = match role {
        Role::Orchestration => {
            let first = types.context;
            quote_spanned!(place=> ::perennial_sdk::export::orchestrate::<#first, #input, #output, _>)
        }
        Role::Activity => quote_spanned!(place=> ::perennial_sdk::export::act::<#input, #output>),
    };
    let run = quote_spanned!(place=> |#context| #run(#context, #call));
    Ok(quote! {
        ::perennial_sdk::#type_of {
            #version
            description: #description,
            #schema
            #validators
            function: ::core::option::Option::Some(::perennial_sdk::export::function_id(&#function_name)),
            ..::perennial_sdk::#type_of::new(#name, #run)
        }
    })
}

/// The field of the validators. What the compiler says of one is at its place.
fn validators(given: &[Validator]) -> Option<TokenStream> {
    let input = Ident::new("input", Span::mixed_site());
    let validators = given.iter().map(|Validator { request, check }| {
        let place = check.span().resolved_at(Span::mixed_site());
        let call = quote_spanned! {place=>
            |#input| ::perennial_sdk::export::check_request(#check, #request, #input)
        };
        quote!(::perennial_sdk::Validator { request: #request, check: #call })
    });
    (!given.is_empty()).then(
        || quote!(validators: ::perennial_sdk::export::validators(const { &[#(#validators),*] }),),
    )
}

/// The fields of the schema of the input. What the compiler says of a type that has none is at its place.
fn schema(given: Option<&Schema>, input: Option<&syn::Type>) -> Result<TokenStream> {
    Ok(match (given, input) {
        (None, _) => TokenStream::new(),
        (Some(Schema::Given(schema)), _) => {
            quote!(input_schema: ::core::option::Option::Some(#schema),)
        }
        (Some(Schema::OfType(_)), Some(input)) => {
            let place = input.span().resolved_at(Span::mixed_site());
            let make = quote_spanned!(place=> ::perennial_sdk::export::input_schema::<#input>);
            quote!(schema_of_input: ::core::option::Option::Some(#make),)
        }
        (Some(Schema::OfType(place)), None) => {
            let message = "`input_schema` without a value is the schema of the type of the input, and this function takes none";
            return Err(syn::Error::new(*place, message));
        }
    })
}

fn optional(value: Option<&Expr>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}

/// A definition for a function that does not compile.
fn stand_in(role: Role) -> TokenStream {
    let type_of = role.definition();
    quote!(::perennial_sdk::#type_of::new("?", |_| ::core::unreachable!()))
}
