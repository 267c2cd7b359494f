"""Video files, network cameras and webcams, over PyAV."""
