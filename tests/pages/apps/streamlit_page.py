"""A page of Streamlit."""

import streamlit

if name := streamlit.text_input("Name"):
    streamlit.write(f"Hello {name}")
