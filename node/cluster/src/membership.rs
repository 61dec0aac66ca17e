//! Who is a member, who is dialled, who is suspected, evicted, superseded: pure.
