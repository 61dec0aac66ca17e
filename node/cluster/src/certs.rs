//! A private certificate authority, so that mutual TLS is one command away.
