"""Published measures of detection, segmentation and tracking."""
