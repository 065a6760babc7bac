// Loads the PeerJS that the address names, then the client.
const version = new URLSearchParams(location.search).get('peerjs');
const script = document.createElement('script');
script.src = `peerjs-${version}.js`;
script.onload = () => {
    const client = document.createElement('script');
    client.src = 'client.js';
    client.type = 'module';
    document.head.append(client);
};
document.head.append(script);
