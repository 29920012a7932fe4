//! Connections by TLS.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: the connection is encrypted, and may lead to anybody.
    Anyone,
    /// A known authority issued it, for whatever name.
    Issued,
    /// A known authority issued it for the name of the server.
    Named,
}

/// Makes connections that check this. The authorities are those in the file, or else those of the system and of Mozilla, as for calls over
/// HTTP.
pub(super) fn connector(
    trust: Trust,
    roots: Option<&Path>,
) -> Result<MakeRustlsConnect, StoreError> {
    let provider = Arc::new(ring::default_provider());
    let bad =
        |error: &dyn std::fmt::Display| StoreError::Address(format!("TLS cannot be used: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?;
    let config = match trust {
        Trust::Named => builder.with_root_certificates(authorities(roots)?),
        Trust::Anyone | Trust::Issued => {
            let checked = match trust {
                Trust::Issued => Some(
                    WebPkiServerVerifier::builder_with_provider(
                        Arc::new(authorities(roots)?),
                        Arc::clone(&provider),
                    )
                    .build()
                    .map_err(|error| bad(&error))?,
                ),
                Trust::Anyone | Trust::Named => None,
            };
            let verifier = Arc::new(AnyName { checked, provider });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

/// What to do about a handshake that failed.
pub(super) fn hint(error: &Error) -> &'static str {
    let Error::InvalidCertificate(error) = error else {
        return "";
    };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "; name a file with the certificate of the authority that issued the server's by sslrootcert"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "; use a host name of the certificate, or sslmode=verify-ca, which does not look at the name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "; renew the certificate of the server"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "; check the clocks of this machine and of the server"
        }
        _ => "; check the certificate of the server",
    }
}

fn authorities(file: Option<&Path>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        let bad = |error: &dyn std::fmt::Display| {
            let what = format!(
                "the certificates in {} cannot be used: {error}",
                file.display()
            );
            StoreError::Address(what)
        };
        for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(&error))? {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(bad(&"there is none in it"));
        }
        return Ok(roots);
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(roots)
}

/// Accepts a certificate for whatever name, and from whomever unless it is checked.
#[derive(Debug)]
struct AnyName {
    checked: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(checked) = &self.checked else {
            return Ok(ServerCertVerified::assertion());
        };
        match checked.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
