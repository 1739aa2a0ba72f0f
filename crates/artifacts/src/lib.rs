//! Stores the files of reports, in a local folder or in S3-compatible object storage.
