//! Lock files of package managers, checked without running anything.
