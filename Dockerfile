# The app as a Docker Space: UID 1000, port 7860, everything it needs in the image, no download from a hub.
# A container has to listen on every address; who can reach it is decided by how its port is published, and nobody is
# asked to sign in. A users file that FORWARDINF_USERS names asks everyone to, whatever FORWARDINF_INSECURE says.
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 user
USER user
ENV PATH=/home/user/.local/bin:$PATH \
    HF_HUB_OFFLINE=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    FORWARDINF_HOST=0.0.0.0 \
    FORWARDINF_INSECURE=1 \
    FORWARDINF_PORT=7860
WORKDIR /home/user/app

COPY --chown=user requirements.txt .
# The CPU build of torch; a GPU image replaces this line by the index of its CUDA version.
RUN pip install --no-cache-dir --user torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
 && pip install --no-cache-dir --user -r requirements.txt
COPY --chown=user . .

EXPOSE 7860
CMD ["python", "app.py"]
