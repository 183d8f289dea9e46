"""What publishes answers from within other programs: each module is loaded by the one that it is named after.

None of them is imported by deltawire itself, and each needs its program installed:

- `litellm` — LiteLLM's proxy: `callbacks: ["deltawire.gateway.integrations.litellm.handler"]`
- `langchain` — LangChain: `callbacks=[StreamHandler(publisher)]`
"""
