"""A run as one HTML page: ``parts`` says what goes in, ``page`` what comes out. It reads no run directory itself."""
