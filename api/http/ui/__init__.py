"""The page's own files: HTML, style sheets and JavaScript modules, served as they are."""
