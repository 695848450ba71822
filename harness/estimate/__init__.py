"""Board milliseconds from what an emulated board counted."""
