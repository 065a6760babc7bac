// Where the bytes of a download go: straight to the disk where the browser offers that, else into a Blob.

const PICKER_FROM = 64 * 1024 * 1024;

// Must be called from the click itself: the picker needs it. Throws AbortError if the person cancels the picker.
export async function openSink(name, size) {
    if (size >= PICKER_FROM && typeof window.showSaveFilePicker === 'function') {
        const file = await window.showSaveFilePicker({ suggestedName: name });
        return new FileSink(await file.createWritable());
    }
    return new BlobSink(name);
}

// The browser writes to a temporary file, which gets its name at close: a download that fails leaves no half file.
class FileSink {
    #stream;
    constructor(stream) {
        this.#stream = stream;
    }
    write(pieces) {
        return this.#stream.write(new Blob(pieces));
    }
    close() {
        return this.#stream.close();
    }
    async abort() {
        await this.#stream.abort().catch(() => {});
    }
}

class BlobSink {
    #name;
    #parts = [];
    constructor(name) {
        this.#name = name;
    }
    // One Blob for many pieces: browsers keep large ones on disk.
    async write(pieces) {
        this.#parts.push(new Blob(pieces));
    }
    async close() {
        const url = URL.createObjectURL(new Blob(this.#parts, { type: 'application/octet-stream' }));
        this.#parts = [];
        const anchor = document.createElement('a');
        anchor.href = url;
        anchor.download = this.#name;
        anchor.click();
        setTimeout(() => URL.revokeObjectURL(url), 60000);
    }
    async abort() {
        this.#parts = [];
    }
}
