//! TLS to the object storage.

use std::{
    fs,
    path::{Path, PathBuf},
};

use artifacts::{ArtifactStore, StorageError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tests::{
    seaweedfs::{SECRET_KEY, SeaweedFs},
    stack::folder,
};

use super::{bucket_arguments, config, content, file, new_path, stored};

/// Makes a CA, and a certificate of it for the server. The CA's file is `<name>.pem`.
fn certify(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join(name).with_extension("pem"), authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let files = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    fs::write(&files.0, certificate.pem()).unwrap();
    fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

#[tokio::test]
async fn a_bucket_is_reached_over_tls_if_its_ca_is_trusted() {
    let dir = folder("storage-tls");
    let server = SeaweedFs::start_with("storage-tls", Some(&|dir| certify(dir, "server"))).await;
    server.make_bucket("reports").await;
    certify(&dir, "other");
    let endpoint = server.https_endpoint();
    let open = |more: &[&str]| {
        let arguments = [&bucket_arguments("s3://reports", &endpoint, SECRET_KEY), more].concat();
        ArtifactStore::open(&config(&arguments)).unwrap()
    };
    let ca = |name: &str| dir.join(name).display().to_string();

    let store = open(&["--report-s3-ca", &ca("server.pem")]);
    let (path, content) = (new_path("a.csv"), content(9 << 20));
    assert_eq!(store.put_file(&path, &file(&content)).await.unwrap(), stored(&content));
    assert_eq!(store.digest(&path).await.unwrap(), Some(stored(&content)));

    for store in [open(&["--report-s3-ca", &ca("other.pem")]), open(&[])] {
        let error = store.put_file(&path, &file(b"content")).await.unwrap_err();
        assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
