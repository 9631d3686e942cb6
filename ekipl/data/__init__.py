"""Problem sources: the published Reason-RFT files and the built-in synthetic splits."""
